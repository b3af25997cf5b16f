// SPDX-License-Identifier: Apache-2.0
//! `bench`: measures Larder against a reference in the same minute.
fn main() {}
