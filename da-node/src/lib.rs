//! The programs of Meridian's hosts: gateway, replica and a whole network on a laptop.

pub mod clock;
pub mod metrics;
#[cfg(test)]
mod test_docs;
