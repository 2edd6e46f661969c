//! All endpoints of one provider: bounds that change for all of them, and what
//! their connections come to.
//!
//! Nothing is counted while calls are made; endpoints are asked. One that nobody
//! uses any more is forgotten here too, and one that only drains is not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Address, Endpoint, PoolLimits};

/// Makes endpoints, and knows those that it made. Clones know the same ones.
#[derive(Debug, Clone)]
pub struct Pools(Arc<Mutex<Made>>);

#[derive(Debug)]
struct Made {
    limits: PoolLimits,
    endpoints: Vec<Weak<Endpoint>>,
    /// How many there may be before those that are gone are looked for.
    look_at: usize,
}

/// Open connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// With calls under way, or being opened.
    pub active: usize,
    /// Kept for later.
    pub idle: usize,
}

impl Pools {
    /// No endpoint yet.
    pub fn new(limits: PoolLimits) -> Self {
        Self(Arc::new(Mutex::new(Made {
            limits,
            endpoints: Vec::new(),
            look_at: 64,
        })))
    }

    /// An endpoint without connections yet.
    pub fn endpoint(&self, address: Address) -> Arc<Endpoint> {
        let mut made = self.made();
        let endpoint = Endpoint::new(address, made.limits);
        if made.endpoints.len() >= made.look_at {
            made.endpoints.retain(|endpoint| endpoint.strong_count() > 0);
            made.look_at = made.endpoints.len() * 2 + 64;
        }
        made.endpoints.push(Arc::downgrade(&endpoint));
        endpoint
    }

    /// Changes the bounds of all endpoints, and of those to come: see
    /// [`Endpoint::set_limits`].
    pub fn set_limits(&self, limits: PoolLimits) {
        let mut made = self.made();
        if made.limits == limits {
            return;
        }
        made.limits = limits;
        let endpoints: Vec<_> = made.endpoints.iter().filter_map(Weak::upgrade).collect();
        // Endpoints that are made from here on have the new ones.
        drop(made);
        for endpoint in endpoints {
            endpoint.set_limits(limits);
        }
    }

    /// The bounds on each endpoint.
    pub fn limits(&self) -> PoolLimits {
        self.made().limits
    }

    /// The connections of all endpoints.
    pub fn connections(&self) -> Connections {
        let endpoints: Vec<_> = self.made().endpoints.iter().filter_map(Weak::upgrade).collect();
        endpoints.iter().fold(Connections::default(), |sum, endpoint| {
            let Connections { active, idle } = endpoint.connections();
            Connections {
                active: sum.active + active,
                idle: sum.idle + idle,
            }
        })
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_reach_all_endpoints_and_those_that_are_gone_are_forgotten() {
        let pools = Pools::new(PoolLimits::default());
        let address = || Address::Unix("/socket".into());
        let kept = pools.endpoint(address());
        for _ in 0..1000 {
            pools.endpoint(address());
        }
        assert!(pools.made().endpoints.len() < 200, "{}", pools.made().endpoints.len());
        let limits = PoolLimits {
            max_conns: 7,
            ..PoolLimits::default()
        };
        pools.set_limits(limits);
        assert_eq!(kept.limits(), limits);
        assert_eq!(pools.endpoint(address()).limits(), limits);
        assert_eq!(pools.connections(), Connections::default());
    }
}
