//! What an apply promises, tried on real directories.

mod basic;
pub(crate) mod lab;
mod parts;
