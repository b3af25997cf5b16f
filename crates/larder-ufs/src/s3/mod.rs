// SPDX-License-Identifier: Apache-2.0
//! The S3 adapter: an own thin client, because no library leaves keys alone.
//!
//! A key is percent-encoded byte by byte into the request path and into the signature, with no
//! normalising anywhere between: `a//b`, `a/`, `/a`, `k/../e`, `x` and `x/y` are distinct objects
//! and reachable. Redirects are never followed; they become an error that says what to set.
//!
//! - `store`: the trait, each call handed to its room
//! - `endpoint`: from bucket and key to a URI
//! - `client`: connections, TLS, time-outs; `sign` and `credentials`: who we are
//! - `read`, `list`, `write`: the calls; `head`: a reply's headers as a status
//! - `receive`, `send`: bodies; `patience`: how slow one may be
//! - `failure`: a refusal as an error; `xml`: documents

mod client;
mod credentials;
mod endpoint;
mod failure;
mod head;
mod list;
mod patience;
mod read;
mod receive;
mod send;
mod store;
mod tls;
mod write;
mod xml;

pub(crate) use store::{Place, S3Store, Tools};
