//! The protobuf codec of every service: a message that does not parse is its sender's fault, not ours.

use std::sync::Arc;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::error::{ApiError, Reason};

/// Bytes that are not a message of the expected type.
///
/// The source of the status on the side that read them, where it tells a bad answer from a refused request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the message does not parse: {0}")]
pub struct ParseError(String);

/// Encodes as tonic does; refuses what does not parse with [`Reason::MessageInvalid`].
#[derive(Clone, Debug)]
pub struct WireCodec<T, U>(ProstCodec<T, U>);

impl<T, U> Default for WireCodec<T, U> {
    fn default() -> Self {
        Self(ProstCodec::default())
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for WireCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = WireDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        self.0.encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        WireDecoder(self.0.decoder())
    }
}

/// The decoder of [`WireCodec`].
#[derive(Clone, Debug)]
pub struct WireDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for WireDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        self.0.decode(from).map_err(|status| {
            let cause = ParseError(status.message().to_owned());
            let mut refused = Status::from(ApiError::new(Reason::MessageInvalid, cause.to_string()));
            refused.set_source(Arc::new(cause));
            refused
        })
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}
