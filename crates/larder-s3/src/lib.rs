// SPDX-License-Identifier: Apache-2.0
//! The S3 face: reads, for any S3 client. It translates and decides nothing.

mod address;
mod answer;
mod body;
mod bucket;
mod condition;
mod face;
mod gate;
mod headers;
mod keys;
mod list;
mod object;
mod operation;
mod query;
mod range;
mod refusal;
mod server;
mod settings;
mod socket;
mod xml;

pub use keys::Keys;
pub use server::S3Face;
pub use settings::Settings;
