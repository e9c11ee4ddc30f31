//! Newtypes for 32-byte values, so that one cannot be taken for another.

use alloy_primitives::B256;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub B256);

        impl $name {
            /// The bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0.0
            }
        }
        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(B256::from(bytes))
            }
        }
        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(&self.0, f)
            }
        }
        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(&self.0, f)
            }
        }
        impl core::str::FromStr for $name {
            type Err = <B256 as core::str::FromStr>::Err;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    };
}

id! {
    /// Content-derived identifier of a blob: keccak256(abi.encode(header)), protocol section 3.
    BlobId
}
id! {
    /// Whose blob it is. Any 32 bytes.
    Namespace
}
id! {
    /// keccak256(payload), or zero where the submitter did not ask for it.
    PayloadHash
}

impl PayloadHash {
    /// What stands in an entry whose submitter did not ask for a payload hash.
    pub const UNBOUND: Self = Self(B256::ZERO);

    /// Whether this is a payload hash at all.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        *self != Self::UNBOUND
    }
}
