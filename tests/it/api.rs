//! The API without sockets: requests go to the endpoint, and a scripted
//! provider notes what it was asked. Files mirror the URL space.

mod desk;
mod errors;
mod functions;
mod info;
mod logs;
mod namespaces;
mod portal;
mod provider;
mod scale;
mod secrets;

pub(crate) use desk::{Answer, Desk};
