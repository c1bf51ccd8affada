//! What an apply promises, tried on real directories.

mod basic;
mod crash;
mod faulty;
pub(crate) mod lab;
mod links;
mod parts;
mod revision_faults;
mod revisions;
