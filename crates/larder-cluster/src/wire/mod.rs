// SPDX-License-Identifier: Apache-2.0
//! What clients and workers say to each other: messages, bodies, and the service they form.
//!
//! Everything here can cross a socket: messages are serialisable, bodies are bytes or extents
//! (which a Unix socket passes as a descriptor and TCP as the bytes themselves). The framing for
//! TCP comes with the first transport that needs it.

pub mod advice;
pub mod body;
pub mod message;
pub mod service;
