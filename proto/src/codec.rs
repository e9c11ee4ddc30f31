//! The protobuf codec of every service: a message that does not parse is its sender's fault, not ours.

use std::sync::Arc;

use bytes::Buf;
use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::error::{ApiError, Reason};

mod fields;

use self::fields::FieldsError;

/// Bytes that are not a message of the expected type.
///
/// The source of the status on the side that read them, where it tells a bad answer from a refused request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the message does not parse: {0}")]
pub struct ParseError(String);

/// Encodes as tonic does; refuses what does not parse with [`Reason::MessageInvalid`], and what has more than
/// [`MAX_FIELDS`](crate::MAX_FIELDS) fields before any memory is taken for them.
#[derive(Clone, Debug)]
pub struct WireCodec<T, U>(ProstCodec<T, U>);

impl<T, U> Default for WireCodec<T, U> {
    fn default() -> Self {
        Self(ProstCodec::default())
    }
}

impl<T: Message + Send + 'static, U: Name + Default + Send + 'static> Codec for WireCodec<T, U> {
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

impl<U: Name + Default> Decoder for WireDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The buffer of a message is in one piece.
        fields::check::<U>(from.chunk()).map_err(|error| {
            let reason = match error {
                FieldsError::TooMany => Reason::TooManyItems,
                _ => Reason::MessageInvalid,
            };
            refused(reason, error.to_string())
        })?;
        self.0.decode(from).map_err(|status| refused(Reason::MessageInvalid, status.message().to_owned()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

fn refused(reason: Reason, cause: String) -> Status {
    let cause = ParseError(cause);
    let mut refused = Status::from(ApiError::new(reason, cause.to_string()));
    refused.set_source(Arc::new(cause));
    refused
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use tonic::codec::Streaming;

    use super::*;
    use crate::{MAX_FIELDS, MAX_MESSAGE, wire};

    /// What a service sees of a request of these bytes.
    fn received(message: &[u8]) -> Result<Option<wire::CosignRequest>, Status> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        // The simplest body that there is: a text.
        let body = String::from_utf8([&[0], length.as_slice(), message].concat()).unwrap();
        let decoder = WireCodec::<(), wire::CosignRequest>::default().decoder();
        let mut stream = Streaming::new_request(decoder, body, None, Some(MAX_MESSAGE));
        match pin!(stream.message()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(message) => message,
            Poll::Pending => panic!("the whole body is there"),
        }
    }

    #[test]
    fn messages_are_counted_before_they_are_decoded() {
        let entries = |count: usize| [0x22, 0].repeat(count);
        assert_eq!(received(&entries(1)).unwrap().unwrap().entries.len(), 1);
        for (message, reason) in
            [(entries(MAX_FIELDS + 1), Reason::TooManyItems), (vec![0x22, 1], Reason::MessageInvalid)]
        {
            let status = received(&message).unwrap_err();
            assert_eq!(status.code(), reason.class().code());
            // To the side that reads, an answer is wrong; to the side that sent a request, the request was.
            assert_eq!(ApiError::from_status(&status).reason, Reason::AnswerInvalid);
            let sent =
                Status::with_details(status.code(), status.message(), status.details().to_vec().into());
            assert_eq!(ApiError::from_status(&sent).reason, reason);
        }
    }
}
