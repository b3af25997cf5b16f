// SPDX-License-Identifier: Apache-2.0
//! A tiny origin: keeps every request head as it came, answers each with the same body.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// What the origin saw: raw heads, and the lengths of bodies.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen(Arc<Mutex<Vec<(String, usize)>>>);

impl Seen {
    pub(crate) fn requests(&self) -> Vec<(String, usize)> {
        self.0.lock().unwrap().clone()
    }
}

/// Starts an origin that answers with `body` (and a Content-Range if a range was asked).
/// Its threads end with the test process.
pub(crate) fn start(body: Vec<u8>) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, body) = (Seen::default(), Arc::new(body));
    let theirs = seen.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, seen, body) = (stream.unwrap(), theirs.clone(), Arc::clone(&body));
            thread::spawn(move || serve(stream, &seen, &body));
        }
    });
    (address, seen)
}

/// Answers requests until the connection ends, however it ends.
fn serve(stream: TcpStream, seen: &Seen, body: &[u8]) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = header(&head, "content-length").and_then(|text| text.parse().ok());
        let length: usize = length.unwrap_or(0);
        let mut sent = vec![0; length];
        reader.read_exact(&mut sent).ok()?;
        let (len, last) = (body.len(), body.len().saturating_sub(1));
        let (status, range) = match header(&head, "range") {
            Some(_) => ("206 Partial", format!("Content-Range: bytes 0-{last}/{len}\r\n")),
            None => ("200 OK", String::new()),
        };
        let reply = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {len}\r\n{range}\
             ETag: \"e\"\r\nx-amz-meta-Mixed: V 1\r\n\r\n",
        );
        let bodiless = head.starts_with("HEAD ");
        seen.0.lock().unwrap().push((head, length));
        writer.write_all(reply.as_bytes()).ok()?;
        if !bodiless {
            writer.write_all(body).ok()?;
        }
    }
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}
