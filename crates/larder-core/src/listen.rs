// SPDX-License-Identifier: Apache-2.0
//! Why a face can't listen where it was told to, in one sentence that says what to do: the same
//! for every face. Nothing here listens.

use std::{io, net::SocketAddr};

use crate::Error;

/// The error for a face (`S3`, set by `--s3`) that may not have `address`: `AlreadyExists` when
/// another process has it, `Denied` without the right, else `Invalid`.
#[must_use]
pub fn refused(face: &str, flag: &str, address: SocketAddr, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => Error::already_exists(format!(
            "the {face} address {address} is taken by another process; stop it or choose another \
             address with {flag}"
        )),
        io::ErrorKind::PermissionDenied => Error::denied(format!(
            "this user may not listen for {face} on {address}; choose a port above 1023 with {flag}"
        )),
        io::ErrorKind::AddrNotAvailable => Error::invalid(format!(
            "this machine has no address {}, so the {face} face can't listen there; choose another \
             with {flag}",
            address.ip()
        )),
        _ => Error::invalid(format!("can't listen for {face} on {address}")).with_source(error),
    }
}
