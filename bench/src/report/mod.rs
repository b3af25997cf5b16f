// SPDX-License-Identifier: Apache-2.0
//! What a bench gives: rows of figures by round, a table for people, JSON for machines.

pub mod json;
pub mod row;
pub mod table;
