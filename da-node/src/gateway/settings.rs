//! What can be set of a gateway.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access::AccessSettings;
use crate::config::documented;

documented! {
    /// Settings of a gateway.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Settings {
        /// Bytes for everything that is held of puts in flight, rows that are being uploaded included. A payload needs
        /// about six times its length, so the largest one needs 768 MiB.
        pub memory_bytes: u64,
        /// Bytes of row buffers that are kept from one put to the next, beside `memory_bytes`: fresh memory costs more
        /// than encoding long payloads.
        pub row_buffer_bytes: u64,
        /// Milliseconds that a put waits for room in the memory before it is refused as overloaded.
        pub memory_wait_ms: u64,
        /// Milliseconds that puts may wait for each other, beyond what one takes alone, before fewer are taken at a time
        /// and the others are refused as overloaded. 32 are always taken.
        pub queue_ms: u64,
        /// Milliseconds without a chunk after which a put is given up.
        pub body_timeout_ms: u64,
        /// Milliseconds without an answer after which no put waits for a replica any longer. A replica that is being sent
        /// rows has more time, by `floor_bytes_per_second`.
        pub silence_ms: u64,
        /// Bytes a second that a replica must at least take in to count as answering.
        pub floor_bytes_per_second: u64,
        /// Milliseconds between two looks at a replica that does not answer.
        pub probe_ms: u64,
        /// Milliseconds after which a checkpoint that lacks its cosignatures is superseded by the next one.
        pub supersede_ms: u64,
        /// Milliseconds that a put whose entry is in the log waits for its certificate.
        pub certificate_wait_ms: u64,
        /// Uploads that are sent to one replica at a time.
        pub uploads_per_seat: usize,
        /// Blobs that are encoded again at a time, for replicas that were out of reach when they were put.
        pub backfills: usize,
        /// Milliseconds that a put waits while the gateway changes to another epoch, before it is refused as unavailable.
        pub change_wait_ms: u64,
        /// Milliseconds that an epoch that ends waits for puts whose payload is complete; later ones go on in the next.
        pub change_finish_ms: u64,
        /// Milliseconds that an epoch that ends waits for cosignatures beyond the quorum.
        pub change_linger_ms: u64,
        /// Milliseconds that a stop waits for puts in flight.
        pub shutdown_ms: u64,
    }
    elsewhere {
        /// Bytes of the disk that stay free: `node.min_free_bytes`.
        pub min_free_bytes: u64,
        /// Who may put: the section `access`.
        pub access: AccessSettings,
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            row_buffer_bytes: 128 << 20,
            memory_wait_ms: 2_000,
            queue_ms: 200,
            body_timeout_ms: 10_000,
            silence_ms: 2_000,
            floor_bytes_per_second: 8 << 20,
            probe_ms: 300,
            supersede_ms: 10_000,
            certificate_wait_ms: 30_000,
            uploads_per_seat: 32,
            backfills: 2,
            change_wait_ms: 5_000,
            change_finish_ms: 500,
            change_linger_ms: 500,
            shutdown_ms: 10_000,
            min_free_bytes: 0,
            access: AccessSettings::default(),
        }
    }
}

impl Settings {
    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub fn check(&self) -> Result<(), String> {
        let positive = [
            ("memory_bytes", self.memory_bytes),
            ("queue_ms", self.queue_ms),
            ("body_timeout_ms", self.body_timeout_ms),
            ("silence_ms", self.silence_ms),
            ("floor_bytes_per_second", self.floor_bytes_per_second),
            ("probe_ms", self.probe_ms),
            ("supersede_ms", self.supersede_ms),
            ("certificate_wait_ms", self.certificate_wait_ms),
            ("uploads_per_seat", u64::try_from(self.uploads_per_seat).unwrap_or(u64::MAX)),
            ("backfills", u64::try_from(self.backfills).unwrap_or(u64::MAX)),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(format!("gateway.{name} must not be 0")),
            None => Ok(()),
        }
    }

    pub(super) fn row_buffers(&self) -> usize {
        usize::try_from(self.row_buffer_bytes).unwrap_or(usize::MAX)
    }

    pub(super) fn memory_wait(&self) -> Duration {
        Duration::from_millis(self.memory_wait_ms)
    }

    pub(super) fn queue(&self) -> Duration {
        Duration::from_millis(self.queue_ms)
    }

    pub(super) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    pub(super) fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms)
    }

    pub(super) fn probe(&self) -> Duration {
        Duration::from_millis(self.probe_ms)
    }

    pub(super) fn supersede(&self) -> Duration {
        Duration::from_millis(self.supersede_ms)
    }

    pub(super) fn certificate_wait(&self) -> Duration {
        Duration::from_millis(self.certificate_wait_ms)
    }

    pub(super) fn change_wait(&self) -> Duration {
        Duration::from_millis(self.change_wait_ms)
    }

    pub(super) fn change_finish(&self) -> Duration {
        Duration::from_millis(self.change_finish_ms)
    }

    pub(super) fn change_linger(&self) -> Duration {
        Duration::from_millis(self.change_linger_ms)
    }

    pub(super) fn shutdown(&self) -> Duration {
        Duration::from_millis(self.shutdown_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_and_zero_is_named() {
        assert_eq!(Settings::default().check(), Ok(()));
        let broken = Settings { silence_ms: 0, ..Settings::default() };
        assert_eq!(broken.check(), Err("gateway.silence_ms must not be 0".to_owned()));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<Settings>("silence_ms = 5").is_ok());
        let error = toml::from_str::<Settings>("silence = 5").unwrap_err();
        assert!(error.to_string().contains("silence"));
    }
}
