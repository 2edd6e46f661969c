//! In place of a queue that is turned off or cannot be opened: says why.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    Allowed, Bounds, Claimed, Count, Entry, Filter, Finished, Job, Page, Published, Queue, QueueError, Waiting,
};
use crate::model::FunctionRef;

/// A queue that keeps nothing, and the reason.
#[derive(Debug)]
pub struct Offline(pub String);

impl Offline {
    fn told<T>(&self) -> Result<T, QueueError> {
        Err(QueueError::Unavailable(self.0.clone()))
    }
}

#[async_trait]
impl Queue for Offline {
    async fn publish(&self, _: Job) -> Result<Published, QueueError> {
        self.told()
    }

    async fn next(&self, _: &dyn Allowed) -> Claimed {
        std::future::pending().await
    }

    async fn finish(&self, _: &str, _: Finished) -> Result<(), QueueError> {
        self.told()
    }

    async fn get(&self, _: &str) -> Result<Entry, QueueError> {
        self.told()
    }

    async fn list(&self, _: &Filter, _: Option<&str>, _: u32) -> Result<Page, QueueError> {
        self.told()
    }

    async fn cancel(&self, _: &str) -> Result<(), QueueError> {
        self.told()
    }

    async fn cancelled(&self, _: &str) {
        std::future::pending::<()>().await;
    }

    async fn redrive(&self, _: &str) -> Result<(), QueueError> {
        self.told()
    }

    async fn ids(&self, _: &Filter) -> Result<Vec<String>, QueueError> {
        self.told()
    }

    async fn purge(&self, _: &Filter) -> Result<u64, QueueError> {
        self.told()
    }

    async fn pause(&self, _: Option<&FunctionRef>, _: bool) -> Result<(), QueueError> {
        self.told()
    }

    fn paused(&self) -> (Vec<FunctionRef>, bool) {
        (Vec::new(), false)
    }

    async fn counts(&self) -> Result<Vec<Count>, QueueError> {
        self.told()
    }

    fn waiting(&self) -> HashMap<FunctionRef, Waiting> {
        HashMap::new()
    }

    async fn forget(&self, _: DateTime<Utc>, _: DateTime<Utc>) -> Result<u64, QueueError> {
        Ok(0)
    }

    fn set_bounds(&self, _: Bounds) {}
}
