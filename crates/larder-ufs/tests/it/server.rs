// SPDX-License-Identifier: Apache-2.0
//! A tiny HTTP server that says exactly what a test wrote, byte for byte, however wrong.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use larder_core::Clock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What follows a reply.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    /// The next request on the same connection.
    Next,
    /// The end of the connection.
    Close,
    /// Silence.
    Stall,
    /// One byte now and then, without end.
    Trickle,
}

/// One scripted reply.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
    then: Then,
}

impl Reply {
    /// These bytes, no more and no less.
    pub(crate) fn raw(text: &str, then: Then) -> Self {
        Self { bytes: text.as_bytes().to_vec(), then }
    }

    /// A well-formed reply.
    pub(crate) fn new(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        Self::raw(&text, Then::Next)
    }
}

/// The server; it ends when it is dropped. The n-th request gets the n-th reply, all further
/// ones the last.
pub(crate) struct Server {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(stream, replies.clone(), Arc::clone(&seen)));
            }
        });
        Self { address, heads, task }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no test panics with this lock").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, replies: Vec<Reply>, heads: Arc<Mutex<Vec<String>>>) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await {
                Ok(count) if count > 0 => buffer.extend_from_slice(&chunk[..count]),
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let index = {
            let mut heads = heads.lock().expect("no test panics with this lock");
            heads.push(head);
            heads.len() - 1
        };
        let reply = &replies[index.min(replies.len() - 1)];
        if stream.write_all(&reply.bytes).await.is_err() {
            return;
        }
        match reply.then {
            Then::Next => {}
            Then::Close => return,
            Then::Stall => {
                std::future::pending::<()>().await;
            }
            Then::Trickle => {
                while stream.write_all(b"x").await.is_ok() {
                    Clock::system().sleep(Duration::from_millis(10)).await;
                }
                return;
            }
        }
    }
}
