//! How a call gets a connection: one that nobody uses, a new one, or its turn.
//!
//! All connections of an endpoint count together, whichever lane they are on.
//! One that is idle on one lane gives way to a call of another that could not
//! have one else.

use std::sync::{Arc, Weak};

use tokio::{sync::oneshot, time::Instant};

use super::{
    ConnectError, Connections, Endpoint, PlainConnection, PoolLimits, connect::Stream, driven::Driven,
    multiplexed::Lane,
};

/// The right to have a connection, held by it while it is open.
#[derive(Debug)]
pub(super) struct Place(Weak<Endpoint>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(endpoint) = self.0.upgrade() {
            endpoint.turns.leave();
            endpoint.offer();
        }
    }
}

/// What carries a call.
pub(super) trait Carrier: Sized {
    /// Being next to open one, where that is not for everybody at once.
    type Claim;

    /// The right to open one.
    type Opening;

    /// One that has room for a call.
    fn kept(endpoint: &Arc<Endpoint>, limits: &PoolLimits) -> Option<Self>;

    /// Whether this one may open one; dropped where there is no place for it.
    fn claim(endpoint: &Arc<Endpoint>) -> Option<Self::Claim>;

    /// The right to open one in a place.
    fn opening(claim: Self::Claim, place: Place) -> Self::Opening;

    /// What is put into the line.
    fn wish(fresh: bool, to: oneshot::Sender<Grant<Self>>) -> Wish;
}

/// What a call may have.
pub(super) enum Grant<C: Carrier> {
    /// A connection that carried calls before.
    Kept(C),
    /// A new one, to be opened.
    Open(C::Opening),
}

/// A call that waits; `fresh` is for one that must not have a kept connection.
pub(super) enum Wish {
    Driven {
        fresh: bool,
        to: oneshot::Sender<Grant<Driven>>,
    },
    Plain {
        fresh: bool,
        to: oneshot::Sender<Grant<PlainConnection>>,
    },
    Shared {
        to: oneshot::Sender<Grant<Lane>>,
    },
}

/// Until when a call waits for a connection: for its turn, and for its opening.
pub(super) fn due(limits: &PoolLimits) -> Instant {
    Instant::now() + limits.connect_timeout
}

impl Endpoint {
    /// A connection for a call, until `due`. `fresh` is for a call that found a
    /// kept one closed.
    pub(super) async fn way<C: Carrier>(
        self: &Arc<Self>,
        limits: &PoolLimits,
        fresh: bool,
        due: Instant,
    ) -> Result<Grant<C>, ConnectError> {
        if !self.has_line(limits)
            && let Some(grant) = self.find(limits, fresh)
        {
            return Ok(grant);
        }
        let (to, granted) = oneshot::channel();
        self.turns.join(C::wish(fresh, to));
        self.settle();
        match tokio::time::timeout_at(due, granted).await {
            Ok(Ok(grant)) => Ok(grant),
            // The line has the other end until it is granted.
            Ok(Err(_)) | Err(_) => Err(self.in_vain()),
        }
    }

    /// Whether somebody came before who waits.
    pub(super) fn has_line(&self, limits: &PoolLimits) -> bool {
        limits.max_conns > 0 && self.turns.is_waited_for()
    }

    /// Lets waiting calls go, as far as there is something for them.
    pub(super) fn settle(self: &Arc<Self>) {
        let limits = self.limits();
        self.turns.settle(|wish| match wish {
            Wish::Driven { fresh, to } => self.grant(&limits, fresh, to),
            Wish::Plain { fresh, to } => self.grant(&limits, fresh, to),
            Wish::Shared { to } => self.grant(&limits, false, to),
        });
    }

    /// The same, where it is most likely that nobody waits.
    pub(super) fn offer(self: &Arc<Self>) {
        if self.turns.is_waited_for() {
            self.settle();
        }
    }

    /// Grants a wish, or gives it back.
    fn grant<C: Carrier>(
        self: &Arc<Self>,
        limits: &PoolLimits,
        fresh: bool,
        to: oneshot::Sender<Grant<C>>,
    ) -> Option<Wish> {
        if to.is_closed() {
            return None;
        }
        match self.find(limits, fresh) {
            Some(grant) => {
                // Dropped if its call left just now; then the next one has it.
                drop(to.send(grant));
                None
            }
            None => Some(C::wish(fresh, to)),
        }
    }

    /// What a call can have now.
    fn find<C: Carrier>(self: &Arc<Self>, limits: &PoolLimits, fresh: bool) -> Option<Grant<C>> {
        if !fresh && let Some(kept) = C::kept(self, limits) {
            return Some(Grant::Kept(kept));
        }
        let claim = C::claim(self)?;
        loop {
            if self.turns.enter(limits.max_conns) {
                let place = Place(Arc::downgrade(self));
                return Some(Grant::Open(C::opening(claim, place)));
            }
            if !self.give_up_idle(limits) {
                return None;
            }
        }
    }

    /// Closes a connection that nobody uses, if there is one. Returns whether
    /// its place is free; one for several calls frees it when it has closed.
    fn give_up_idle(&self, limits: &PoolLimits) -> bool {
        let timeout = limits.idle_timeout;
        let given = self.plain.take_any(timeout, |_| true).is_some() || self.idle.take_any(timeout, |_| true).is_some();
        if !given {
            self.multiplexed.give_up_idle();
        }
        given
    }

    /// Closes idle connections that are more than there may be.
    pub(super) fn give_up_surplus(&self, limits: &PoolLimits) {
        while limits.max_conns > 0 && self.turns.open() > limits.max_conns && self.give_up_idle(limits) {}
    }

    /// Whether a connection carries no further call: it is too old, or there
    /// are more than there may be.
    pub(super) fn is_surplus(&self, limits: &PoolLimits, life: super::life::Life) -> bool {
        life.is_over(limits.max_age) || (limits.max_conns > 0 && self.turns.open() > limits.max_conns)
    }

    /// Opens a connection, and remembers whether that was possible.
    pub(super) async fn connect(
        &self,
        place: Place,
        limits: &PoolLimits,
        due: Instant,
    ) -> Result<Stream, ConnectError> {
        let connected = super::connect::connect(self.address(), place, due, limits.connect_timeout).await;
        if connected.is_ok() {
            self.health().reached();
        } else {
            self.health().unreachable();
        }
        connected
    }

    /// How many there are.
    pub(super) fn connections(&self) -> Connections {
        let idle = self.plain.len() + self.idle.len() + self.multiplexed.idle();
        Connections {
            // Calls go on meanwhile.
            active: self.turns.open().saturating_sub(idle),
            idle,
        }
    }

    /// Why a call waited for nothing.
    fn in_vain(&self) -> ConnectError {
        let limits = self.limits();
        let address = self.address().described();
        let after = limits.connect_timeout;
        if limits.max_conns > 0 && self.turns.open() >= limits.max_conns {
            ConnectError::Full {
                address,
                most: limits.max_conns,
                after,
            }
        } else {
            ConnectError::Timeout { address, after }
        }
    }
}
