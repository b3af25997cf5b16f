// SPDX-License-Identifier: Apache-2.0
//! Placement: the pure function from members and keys to owners.
