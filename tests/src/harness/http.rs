//! A request over HTTP, for ports that speak nothing else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Wait for an answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks whoever listens at `addr`: status code and body; `None` where nobody answers.
#[must_use]
pub fn ask(addr: &str, method: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(ASK_TIMEOUT)).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let code = answer.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n")?.1.to_owned();
    Some((code, body))
}
