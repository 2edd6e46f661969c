//! Bytes that nobody should send, from callers and from functions. See
//! [`crate::support::fuzz`] for how long and how often; `make fuzz` runs these.

mod bytes;
mod grammar;
mod headers;
mod lanes;
mod words;
