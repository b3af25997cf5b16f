//! stub
pub mod under_storage;
