// SPDX-License-Identifier: Apache-2.0
//! Where the list of workers and mounts comes from.
