//! Ports that stay a test's own while nobody listens on them.
//!
//! Whoever is started again listens where it did before. A port that the kernel chose may by then belong to any
//! connection, so these lie below all that it chooses from (`ip_local_port_range`, from 32,768 unless it was changed).

use std::net::TcpListener;
use std::ops::Range;
use std::process;
use std::sync::Mutex;

use anyhow::{Context, Result};

const PORTS: Range<u16> = 10_000..32_768;

/// Where the next search of this process begins.
static NEXT: Mutex<Option<u16>> = Mutex::new(None);

/// Listeners on consecutive ports that this process has given to nobody else.
///
/// # Errors
/// When no so many consecutive ports are free.
pub fn listeners(count: usize) -> Result<Vec<TcpListener>> {
    let mut next = NEXT.lock().map_err(|_| anyhow::anyhow!("a test ended while it searched for ports"))?;
    // Test programs that run at the same time begin far from each other.
    let seed = process::id().wrapping_mul(997) % u32::try_from(PORTS.len())?;
    let mut port = next.unwrap_or(PORTS.start + u16::try_from(seed)?);
    let mut held = Vec::with_capacity(count);
    for _ in PORTS {
        if held.len() == count {
            break;
        }
        if port == PORTS.end {
            port = PORTS.start;
            held.clear();
        }
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => held.push(listener),
            Err(_) => held.clear(),
        }
        port += 1;
    }
    *next = Some(port);
    (held.len() == count).then_some(held).with_context(|| format!("no {count} consecutive free ports"))
}

/// A listener on a port that this process has given to nobody else.
///
/// # Errors
/// When no port is free.
pub fn listener() -> Result<TcpListener> {
    listeners(1)?.pop().context("one listener")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nobody_is_given_what_another_has() {
        let mut seen = BTreeSet::new();
        for count in [1, 33, 1, 5] {
            let held = listeners(count).unwrap();
            let ports: Vec<u16> = held.iter().map(|l| l.local_addr().unwrap().port()).collect();
            assert!(ports.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{ports:?}");
            for port in ports {
                assert!(PORTS.contains(&port) && seen.insert(port), "{port}");
            }
        }
        assert_eq!(seen.len(), 40);
    }
}
