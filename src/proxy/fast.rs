//! The fast lane's view of HTTP/1.1: heads and bodies as bytes. Pure.
//!
//! A plain call needs little of a message's meaning: which function, where the
//! body ends, and a few headers. These modules read just that from the bytes as
//! they came, strictly, and write the message on, each byte copied once.
//! Whatever is unusual in a request is [`head::Read::Doubtful`] and none of
//! their concern: the base lane, which is built on hyper, takes it
//! from there. They refuse by falling back, never by guessing.
//!
//! What is done with messages, and all I/O, is in [`crate::server`].

pub mod answer;
pub mod body;
pub mod chunked;
pub mod head;
pub mod write;
