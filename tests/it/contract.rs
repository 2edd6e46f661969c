//! The same cases over every implementation of a trait, and what only one
//! implementation promises.

mod process;
mod provider;
