// SPDX-License-Identifier: Apache-2.0
//! One keep-alive connection: a prepared request out, a whole reply in, with its times.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use larder_core::Clock;

/// No exchange may take longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is read from the socket at once; a reply's head must fit.
const BUFFER: usize = 256 << 10;

/// What one exchange gave.
#[derive(Debug, Clone, Copy)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Body bytes.
    pub length: u64,
    /// From the request until the first body byte (or the head, if there is no body).
    pub first_byte: Duration,
    /// From the request until the last body byte.
    pub total: Duration,
}

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    clock: Clock,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: vec![0; BUFFER], clock: Clock::system() })
    }

    /// Sends `request` and gives each piece of the reply's body to `sink`.
    pub fn exchange(&mut self, request: &[u8], mut sink: impl FnMut(&[u8])) -> Result<Reply> {
        let start = self.clock.elapsed();
        self.stream.write_all(request)?;
        let (head, mut filled) = self.read_head()?;
        let (status, length) = parse_head(&self.buffer[..head])?;
        let mut first_byte = None;
        let mut got = (filled - head) as u64;
        if got > 0 {
            first_byte = Some(self.clock.elapsed());
            sink(&self.buffer[head..filled]);
        }
        while got < length {
            filled = self.stream.read(&mut self.buffer).context("the reply's body broke off")?;
            if filled == 0 {
                bail!("the connection was closed after {got} of {length} body bytes");
            }
            first_byte.get_or_insert_with(|| self.clock.elapsed());
            got += filled as u64;
            sink(&self.buffer[..filled]);
        }
        if got > length {
            bail!("the server sent {got} body bytes though it promised {length}");
        }
        let end = self.clock.elapsed();
        let first_byte = first_byte.unwrap_or(end) - start;
        Ok(Reply { status, length, first_byte, total: end - start })
    }

    /// Reads until the head is whole: its length, and how much is in the buffer.
    fn read_head(&mut self) -> Result<(usize, usize)> {
        let mut filled = 0;
        loop {
            let count =
                self.stream.read(&mut self.buffer[filled..]).context("no reply to a request")?;
            if count == 0 {
                bail!("the connection was closed before a reply's head, or the head is too long");
            }
            let seen = filled.saturating_sub(3);
            filled += count;
            let end = self.buffer[seen..filled].windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                return Ok((seen + end + 4, filled));
            }
        }
    }
}

/// Status and body length. A reply without a length is refused: no server here needs that.
fn parse_head(head: &[u8]) -> Result<(u16, u64)> {
    let text = std::str::from_utf8(head).context("a reply's head is not text")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|code| code.parse().ok()).context("a reply has no status")?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<u64>())
    });
    match length {
        Some(length) => Ok((status, length.context("a reply's Content-Length is no number")?)),
        None if matches!(status, 204 | 304) => Ok((status, 0)),
        None => bail!("a reply with status {status} has no Content-Length"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_parsed_or_refused() {
        let parse = |text: &str| parse_head(text.as_bytes());
        let head = "HTTP/1.1 200 OK\r\nServer: x\r\ncontent-LENGTH: 42\r\n\r\n";
        assert_eq!(parse(head).unwrap(), (200, 42));
        assert_eq!(parse("HTTP/1.1 204 No Content\r\n\r\n").unwrap(), (204, 0));
        for wrong in ["", "HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}
