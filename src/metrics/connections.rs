//! The gauge of connections to upstreams, counted when it is asked for.
//!
//! In total: there may be as many upstreams as functions have addresses.

use prometheus::{
    IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::UPSTREAM_CONNECTIONS;
use crate::upstream::Connections;

/// Counts connections.
pub(super) struct Gauges<C> {
    count: C,
    connections: IntGaugeVec,
}

impl<C: Fn() -> Connections + Send + Sync> Gauges<C> {
    pub(super) fn new(count: C) -> Self {
        let help = "Open connections to functions, or to the provider in front of them.";
        Self {
            count,
            connections: IntGaugeVec::new(Opts::new(UPSTREAM_CONNECTIONS, help), &["state"])
                .expect("metric names and labels are constants of the parent module"),
        }
    }
}

impl<C: Fn() -> Connections + Send + Sync> Collector for Gauges<C> {
    fn desc(&self) -> Vec<&Desc> {
        self.connections.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Connections { active, idle } = (self.count)();
        for (state, count) in [("active", active), ("idle", idle)] {
            self.connections
                .with_label_values(&[state])
                .set(super::clamp(count as u64));
        }
        self.connections.collect()
    }
}
