//! What an apply promises, tried on real directories.

mod basic;
mod lab;
mod parts;
