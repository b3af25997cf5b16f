// SPDX-License-Identifier: Apache-2.0
//! Configuration: what can be set, where each value came from, and what is wrong with it.
//!
//! Four layers, each over the one before: defaults, the file, environment variables, flags. A
//! setting is declared once, in `settings`; its documentation, its check and its suggestion come
//! from that declaration. No setting holds a secret: credentials are files, named here.

mod describe;
mod file;
mod layers;
mod reference;
mod settings;
mod suggest;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use file::FileProblems;
pub(crate) use layers::{Layers, Source};
pub(crate) use reference::{documented, reference};
pub(crate) use settings::{Cache, Config, Mount};
pub(crate) use value::LogFormat;
