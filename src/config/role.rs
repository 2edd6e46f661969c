//! Which part of the work a process does (`server.role`). Pure.

use super::setting::choice;

choice! {
    /// Which part of the work a process does.
    pub enum Role {
        /// All of it.
        All = "all",
        /// It answers callers and keeps asynchronous calls, and makes none of those.
        Gateway = "gateway",
        /// It makes asynchronous calls, and answers no callers.
        Worker = "worker",
    }
}

impl Role {
    /// Whether functions and routes can be called here.
    pub fn answers(self) -> bool {
        self != Self::Worker
    }

    /// Whether asynchronous calls are made here, those of the clock included.
    pub fn works(self) -> bool {
        self != Self::Gateway
    }
}
