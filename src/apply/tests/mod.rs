//! What an apply promises, tried on real directories.

mod basic;
mod crash;
mod faulty;
mod foreign;
pub(crate) mod lab;
mod links;
mod parts;
mod revision_faults;
mod revisions;
