//! The fast lane: plain calls, from bytes to bytes.
//!
//! Each connection starts here. A request that is a plain call of a known
//! function goes to it without becoming a request object; any other goes to the
//! base lane, with the bytes that were read, and the connection comes back when
//! that is answered. Nothing is decided here that the base lane would decide
//! differently: see [`crate::proxy::fast`] for what is plain.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use tokio::{io::AsyncWriteExt, time::Instant};

use super::{
    Service,
    activity::Limits,
    listener::GOODBYE,
    received::{LONGEST_WAIT, MOST_DROPPED},
    socket::Socket,
};
use crate::{
    proxy::fast::body::Body,
    shutdown::{Cancelled, Stop},
};

mod alarm;
mod buffer;
mod call;
mod date;
mod exchange;
mod lent;
mod plan;
mod transfer;

use alarm::Alarm;
use buffer::{Buffer, LARGE};
use call::{Call, Then};
use plan::Plan;

/// The caller closed its connection.
#[derive(Debug)]
struct Left;

/// A caller's connection.
#[derive(Debug)]
pub(super) struct Caller {
    socket: Socket,
    /// What it sent and nobody used yet.
    input: Buffer,
    peer: SocketAddr,
    /// `peer` as functions see it.
    shown: Box<str>,
    /// Requests so far.
    served: u64,
    alarm: Alarm,
}

/// Serves one connection until it ends or is asked to.
pub(super) async fn serve(socket: Socket, peer: SocketAddr, service: Service, stop: Stop) {
    let mut caller = Caller {
        socket,
        input: Buffer::default(),
        peer,
        shown: peer.to_string().into_boxed_str(),
        served: 0,
        alarm: Alarm::default(),
    };
    let mut stopped = stop.cancelled();
    let mut fresh = true;
    loop {
        let limits = {
            let snapshot = service.current.get();
            Limits::new(&snapshot.config.server)
        };
        // No second helping for the first byte: who connects has something to say.
        let Some(plan) = caller.next(&service, limits, fresh, &mut stopped).await else {
            return caller.leave().await;
        };
        let then = match plan {
            Plan::Call(call) => {
                caller.served += 1;
                let last = stop.is_cancelled() || limits.is_last(caller.served);
                // In memory of its own, which a connection that waits does not have.
                Box::pin(call.run(&mut caller, last)).await
            }
            Plan::Partial | Plan::Base => match Box::pin(lent::serve(caller, &service, limits, &stop, fresh)).await {
                Some(back) => {
                    caller = back;
                    Then::Next
                }
                None => return,
            },
        };
        fresh = false;
        match then {
            Then::Next => {}
            Then::Close => return Box::pin(super::linger::close(caller.socket)).await,
            Then::Cut => return,
        }
        if stop.is_cancelled() && caller.input.is_empty() {
            return caller.leave().await;
        }
    }
}

impl Caller {
    /// Waits for the next request's head and says what to do with it; `None`
    /// when there is none any more.
    async fn next(
        &mut self,
        service: &Service,
        limits: Limits,
        begun: bool,
        stopped: &mut Cancelled,
    ) -> Option<Plan<Box<Call>>> {
        self.input.release();
        let mut begun = begun || !self.input.is_empty();
        let mut since = None;
        if !self.input.is_empty() {
            match plan::plan(&self.input, service, (self.peer, &self.shown)) {
                Plan::Partial => self.make_room(),
                plan => return Some(plan),
            }
        }
        poll_fn(|cx| {
            loop {
                match self.input.poll_fill(cx, &mut self.socket, LARGE) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                    Poll::Ready(Ok(_)) => match plan::plan(&self.input, service, (self.peer, &self.shown)) {
                        Plan::Partial => {
                            self.make_room();
                            if !begun {
                                begun = true;
                                since = None;
                            }
                        }
                        plan => return Poll::Ready(Some(plan)),
                    },
                    Poll::Pending => break,
                }
            }
            let stopped = Pin::new(&mut *stopped).poll(cx).is_ready();
            if stopped && self.input.is_empty() {
                return Poll::Ready(None);
            }
            let bound = if begun { limits.head } else { limits.idle };
            let bound = if stopped { GOODBYE.min(bound) } else { bound };
            let since = *since.get_or_insert_with(Instant::now);
            self.alarm.poll(cx, since + bound).map(|()| None)
        })
        .await
    }

    /// Whether the caller closed its connection. What it sends meanwhile is the
    /// rest of its request, or its next one.
    fn has_left(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.input.is_full() {
            match self.input.poll_fill(cx, &mut self.socket, LARGE) {
                Poll::Ready(Ok(0) | Err(_)) => return true,
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return false,
            }
        }
        false
    }

    /// What comes of `future`, or [`Left`] when the caller does not wait for it.
    async fn while_here<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Left> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending if self.has_left(cx) => Poll::Ready(Err(Left)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Reads and drops what is left of a request, if that is soon done; whether it was. What
    /// has no end of its own is nothing that could be read.
    async fn pass_over(&mut self, body: &mut Body) -> bool {
        if matches!(body, Body::UntilClose) {
            return false;
        }
        let all = async {
            let mut dropped = 0;
            loop {
                let Ok(runs) = body.take(self.input.unread()) else {
                    return false;
                };
                self.input.consume(runs.consumed);
                dropped += runs.data as u64;
                if runs.ended {
                    return true;
                }
                if dropped + body.known_length().unwrap_or_default() > MOST_DROPPED {
                    return false;
                }
                self.input.rewind();
                let read = poll_fn(|cx| self.input.poll_fill(cx, &mut self.socket, LARGE)).await;
                if !matches!(read, Ok(1..)) {
                    return false;
                }
            }
        };
        tokio::time::timeout(LONGEST_WAIT, all).await.unwrap_or(false)
    }

    /// Ends a connection on which nothing is under way. TLS tells the other end,
    /// which could not know otherwise that nobody cut it off.
    async fn leave(self) {
        if !self.socket.is_tls() {
            return;
        }
        let mut socket = self.socket;
        // Whoever is gone already need not be told.
        let _told = Box::pin(tokio::time::timeout(GOODBYE, socket.shutdown())).await;
    }

    /// Lets the rest of a head be read.
    fn make_room(&mut self) {
        if self.input.is_full() {
            self.input.compact();
        }
    }
}
