//! The addresses of one function's host, and which of them takes the next call.
//!
//! They are looked up when the function is called first, and again and again
//! while it is called; calls never wait for that. Until an address is known, and
//! while looking up is off, each connection looks the host up for itself. An
//! address that is still there keeps its endpoint, and with it its connections;
//! one that is gone gets no more calls, and those under way on it end.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::{Notify, watch};

use crate::upstream::{Address, Endpoint, Pools, choose};

/// Finds out a host's addresses.
#[async_trait]
pub(super) trait Lookup: Send + Sync + 'static {
    /// All of them, in any order.
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
pub(super) struct System;

#[async_trait]
impl Lookup for System {
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// The addresses of one host.
pub(super) struct Addresses {
    host: String,
    port: u16,
    pools: Pools,
    /// While no address is known.
    by_name: Arc<Endpoint>,
    known: ArcSwap<Vec<Arc<Endpoint>>>,
    /// The last look failed, and somebody was told.
    failing: AtomicBool,
    /// Whether there was a call since the last look.
    called: AtomicBool,
    call: Notify,
    /// Whether somebody looks.
    followed: AtomicBool,
}

/// Why nobody looks for addresses any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nobody calls the function, and its idle connections are closed by now.
    Uncalled,
    /// Looking up was turned off.
    Off,
}

impl Addresses {
    /// Of a host, of which nothing is known.
    pub(super) fn of(host: String, port: u16, pools: Pools) -> Self {
        let by_name = pools.endpoint(Address::Tcp {
            host: host.clone(),
            port,
            tls: None,
            at: None,
        });
        // Some hosts are addresses themselves.
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        Self {
            host,
            port,
            pools,
            by_name,
            known: ArcSwap::default(),
            failing: AtomicBool::new(false),
            called: AtomicBool::new(false),
            call: Notify::new(),
            followed: AtomicBool::new(is_address),
        }
    }

    /// Notes a call. Returns whether somebody has to [`Addresses::follow`].
    pub(super) fn note_call(&self) -> bool {
        if !self.called.load(Ordering::Relaxed) && !self.called.swap(true, Ordering::Relaxed) {
            self.call.notify_one();
        }
        !self.followed.load(Ordering::Relaxed) && !self.followed.swap(true, Ordering::Relaxed)
    }

    /// Where the next call goes.
    pub(super) fn choose(&self) -> Arc<Endpoint> {
        choose(&self.known.load()).unwrap_or_else(|| self.unresolved())
    }

    /// Where a call goes without looking up the host before.
    pub(super) fn unresolved(&self) -> Arc<Endpoint> {
        Arc::clone(&self.by_name)
    }

    /// Calls under way.
    pub(super) fn in_flight(&self) -> usize {
        let known = self.known.load();
        let known: usize = known.iter().map(|endpoint| endpoint.in_flight()).sum();
        self.by_name.in_flight() + known
    }

    /// Looks the host up, and again after each `pause`, while it is called.
    /// Zero ends it.
    pub(super) async fn follow(
        addresses: Weak<Self>,
        lookup: Arc<dyn Lookup>,
        mut pause: watch::Receiver<Duration>,
    ) -> Ended {
        loop {
            let Some(this) = addresses.upgrade() else {
                return Ended::Uncalled;
            };
            let wait = *pause.borrow_and_update();
            if wait.is_zero() {
                this.followed.store(false, Ordering::Relaxed);
                return Ended::Off;
            }
            this.called.store(false, Ordering::Relaxed);
            this.look_up(&*lookup).await;
            drop(this);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // Another pause. The sender lives as long as who spawned this.
                _ = pause.changed() => continue,
            }
            let Some(this) = addresses.upgrade() else {
                return Ended::Uncalled;
            };
            if !this.called.load(Ordering::Relaxed)
                && tokio::time::timeout(this.pools.limits().idle_timeout, this.call.notified())
                    .await
                    .is_err()
            {
                this.followed.store(false, Ordering::Relaxed);
                return Ended::Uncalled;
            }
        }
    }

    async fn look_up(&self, lookup: &dyn Lookup) {
        match lookup.addresses(&self.host, self.port).await {
            Ok(found) if !found.is_empty() => {
                self.failing.store(false, Ordering::Relaxed);
                self.become_known(found);
            }
            Ok(_) => self.note_failure(&io::Error::new(io::ErrorKind::NotFound, "there are none")),
            Err(error) => self.note_failure(&error),
        }
    }

    /// Told once, and only of hosts that were found before: names come from
    /// callers, and calls of others fail with the same words.
    fn note_failure(&self, error: &io::Error) {
        let first = !self.failing.swap(true, Ordering::Relaxed);
        if first && !self.known.load().is_empty() {
            tracing::warn!(host = %self.host, %error, "cannot look up a function's addresses; those that it had are called");
        } else {
            tracing::debug!(host = %self.host, %error, "cannot look up a function's addresses");
        }
    }

    fn become_known(&self, found: Vec<SocketAddr>) {
        let known = self.known.load();
        let before: Vec<_> = known.iter().filter_map(|endpoint| endpoint.address().at()).collect();
        let Some(next) = changed(&before, found) else { return };
        tracing::debug!(host = %self.host, addresses = ?next, "a function's addresses changed");
        let kept = |at: SocketAddr| {
            let kept = known.iter().find(|endpoint| endpoint.address().at() == Some(at));
            kept.cloned()
        };
        let endpoints = next.into_iter().map(|at| {
            kept(at).unwrap_or_else(|| {
                self.pools.endpoint(Address::Tcp {
                    host: self.host.clone(),
                    port: self.port,
                    tls: None,
                    at: Some(at),
                })
            })
        });
        self.known.store(Arc::new(endpoints.collect()));
    }
}

/// The addresses in order, each once; `None` when they are those from before.
fn changed(before: &[SocketAddr], mut found: Vec<SocketAddr>) -> Option<Vec<SocketAddr>> {
    found.sort_unstable();
    found.dedup();
    (found != before).then_some(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::mpsc;

    use super::*;
    use crate::upstream::PoolLimits;

    const SOON: Duration = Duration::from_millis(5);

    /// Answers as it is told, and tells that it was asked.
    struct Told {
        answer: Mutex<Option<Vec<&'static str>>>,
        asked: mpsc::UnboundedSender<()>,
    }

    impl Told {
        fn say(&self, answer: Option<Vec<&'static str>>) {
            *self.answer.lock().expect("no panic") = answer;
        }
    }

    #[async_trait]
    impl Lookup for Told {
        async fn addresses(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            let _ended = self.asked.send(());
            let answer = self.answer.lock().expect("no panic").clone();
            let answer = answer.ok_or_else(|| io::Error::other("no answer"))?;
            Ok(answer.iter().map(|text| text.parse().expect("an address")).collect())
        }
    }

    struct Followed {
        addresses: Arc<Addresses>,
        lookup: Arc<Told>,
        asked: mpsc::UnboundedReceiver<()>,
        pause: watch::Sender<Duration>,
        ended: tokio::task::JoinHandle<Ended>,
    }

    impl Followed {
        fn start(idle_timeout: Duration, answer: &[&'static str]) -> Self {
            let limits = PoolLimits {
                idle_timeout,
                ..PoolLimits::default()
            };
            let (tell, asked) = mpsc::unbounded_channel();
            let lookup = Arc::new(Told {
                answer: Mutex::new(Some(answer.to_vec())),
                asked: tell,
            });
            let addresses = Arc::new(Addresses::of("f.svc".to_owned(), 8080, Pools::new(limits)));
            assert!(addresses.note_call() && !addresses.note_call(), "one follows");
            let (pause, paused) = watch::channel(SOON);
            let following = Addresses::follow(Arc::downgrade(&addresses), Arc::clone(&lookup) as _, paused);
            #[expect(clippy::disallowed_methods, reason = "ends with its runtime")]
            let ended = tokio::spawn(following);
            Self {
                addresses,
                lookup,
                asked,
                pause,
                ended,
            }
        }

        /// Lets two looks pass: the first may have begun before.
        async fn looked(&mut self) {
            while self.asked.try_recv().is_ok() {}
            for _ in 0..3 {
                self.addresses.note_call();
                self.asked.recv().await.expect("a look");
            }
        }

        fn known(&self) -> Vec<Arc<Endpoint>> {
            self.addresses.known.load().to_vec()
        }
    }

    fn shown(endpoints: &[Arc<Endpoint>]) -> Vec<String> {
        endpoints
            .iter()
            .filter_map(|endpoint| endpoint.address().at())
            .map(|at| at.to_string())
            .collect()
    }

    #[tokio::test]
    async fn endpoints_are_kept_by_their_address_and_go_with_it() {
        let mut followed = Followed::start(Duration::from_secs(60), &["10.0.0.2:8080", "[fd00::1]:8080"]);
        assert!(
            followed.addresses.choose().address().at().is_none(),
            "by name, until an address is known"
        );
        followed.looked().await;
        let first = followed.known();
        assert_eq!(shown(&first), ["10.0.0.2:8080", "[fd00::1]:8080"]);
        assert_eq!(first[0].host(), "f.svc:8080", "functions see their name");
        assert!(followed.addresses.choose().address().at().is_some());
        for (answer, expected) in [
            (
                Some(vec!["[fd00::1]:8080", "10.0.0.9:8080", "[fd00::1]:8080"]),
                vec!["10.0.0.9:8080", "[fd00::1]:8080"],
            ),
            (None, vec!["10.0.0.9:8080", "[fd00::1]:8080"]),
            (Some(vec![]), vec!["10.0.0.9:8080", "[fd00::1]:8080"]),
            (Some(vec!["[fd00::1]:8080"]), vec!["[fd00::1]:8080"]),
        ] {
            followed.lookup.say(answer);
            followed.looked().await;
            let known = followed.known();
            assert_eq!(shown(&known), expected);
            let same = known.last().expect("one");
            assert!(Arc::ptr_eq(same, &first[1]), "its connections stay");
        }
        let gone = Arc::downgrade(&first[0]);
        drop(first);
        assert!(gone.upgrade().is_none(), "once no call has it");
    }

    #[tokio::test]
    async fn a_host_is_looked_up_while_it_is_called() {
        let mut followed = Followed::start(Duration::from_millis(50), &["10.0.0.2:8080"]);
        followed.looked().await;
        let ended = followed.ended.await.expect("no panic");
        assert_eq!(ended, Ended::Uncalled);
        assert!(followed.addresses.note_call(), "somebody has to follow again");
    }

    #[tokio::test]
    async fn a_pause_of_zero_ends_it_and_a_new_one_counts_at_once() {
        let mut followed = Followed::start(Duration::from_secs(60), &["10.0.0.2:8080"]);
        followed.looked().await;
        followed.pause.send(Duration::from_secs(3600)).expect("followed");
        // One that a call in between may have asked for.
        followed.asked.recv().await.expect("at once");
        followed.pause.send(Duration::ZERO).expect("followed");
        assert_eq!(followed.ended.await.expect("no panic"), Ended::Off);
    }

    #[test]
    fn hosts_that_are_addresses_are_not_looked_up() {
        let addresses = Addresses::of("10.0.0.1".to_owned(), 8080, Pools::new(PoolLimits::default()));
        assert!(!addresses.note_call());
    }

    #[test]
    fn the_same_addresses_in_another_order_are_no_change() {
        let at = |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().filter_map(|text| text.parse().ok()).collect() };
        let before = at(&["10.0.0.1:1", "10.0.0.2:1"]);
        for (found, expected) in [
            (&["10.0.0.2:1", "10.0.0.1:1"][..], None),
            (&["10.0.0.2:1", "10.0.0.1:1", "10.0.0.2:1"], None),
            (&["10.0.0.2:1"], Some(at(&["10.0.0.2:1"]))),
            (
                &["[::1]:1", "10.0.0.1:1", "10.0.0.2:1"],
                Some(at(&["10.0.0.1:1", "10.0.0.2:1", "[::1]:1"])),
            ),
        ] {
            assert_eq!(changed(&before, at(found)), expected, "{found:?}");
        }
    }
}
