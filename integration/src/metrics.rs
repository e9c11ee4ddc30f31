//! What a running host measures.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// Longest wait for a part of the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A metric of the host whose HTTP port this is: the sum over its attributes.
///
/// # Errors
/// When the host does not answer, or has no such metric.
pub fn metric(http: SocketAddr, name: &str) -> Result<f64> {
    let mut socket = TcpStream::connect_timeout(&http, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let values = answer.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        (series.split('{').next()? == name).then_some(value)
    });
    let values: Vec<f64> = values.map(str::parse).collect::<Result<_, _>>()?;
    (!values.is_empty()).then(|| values.iter().sum()).with_context(|| format!("{http} has no {name}"))
}
