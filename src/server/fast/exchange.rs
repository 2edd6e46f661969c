//! One call on the fast lane, once it has a connection to its function: the
//! request goes up, the answer comes down, at the same time where they have to.
//!
//! Everything that a call can wait for is looked at whenever something happens:
//! both connections, both directions, and the bound that passes first.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    Caller,
    buffer::{Buffer, LARGE},
    date,
    transfer::{Broken, Transfer, Waits},
};
use crate::{
    config::{Bound, SizeBound},
    proxy::{
        ForwardError,
        body::{Deadline, TooLarge},
        fast::{
            answer::{self, Read},
            body::Body,
            write::{self, Added, CallLine},
        },
    },
    upstream::{Endpoint, PlainConnection, SendError},
};

/// Largest head of an answer.
const MAX_HEAD: usize = 512 * 1024;

/// What is known of the request.
#[derive(Debug)]
pub(super) struct Asked {
    /// Its id and start.
    pub(super) line: CallLine,
    /// When the function was called.
    pub(super) called: Instant,
    /// Whether it is a `HEAD`, whose answer has no body.
    pub(super) is_head: bool,
    /// Whether it may be sent twice.
    pub(super) repeatable: bool,
    /// Whether the caller sends nothing after it.
    pub(super) close: bool,
}

/// How long a call may take.
#[derive(Debug)]
pub(super) struct Bounds {
    /// For the request to be received.
    pub(super) receive: Deadline,
    /// For the whole answer.
    pub(super) answer: Deadline,
    /// For the answer's beginning, once the request was sent.
    pub(super) first_byte: Option<Bound>,
    /// On the function's silence within the answer.
    pub(super) idle: Option<Bound>,
    /// On the caller's taking nothing of the answer.
    pub(super) write: Duration,
    /// On the answer's size.
    pub(super) max_response: Option<SizeBound>,
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Exchange<'c> {
    caller: &'c mut Caller,
    asked: &'c Asked,
    bounds: &'c Bounds,
    connection: PlainConnection,
    /// What the function sent.
    reply: Buffer,
    up: &'c mut Transfer,
    upload: Upload,
    down: Option<Down>,
    /// Whether the gateway will end the caller's connection.
    stopping: bool,
}

#[derive(Debug)]
enum Upload {
    UnderWay,
    /// All of it was sent then.
    Sent(Instant),
    /// The function takes no more of it.
    Refused(io::Error),
}

#[derive(Debug)]
struct Down {
    transfer: Transfer,
    status: u16,
    /// Whether the function's connection can carry another call.
    keeps: bool,
    close: bool,
    /// Since when the transfer waits for what it waits for.
    waits: Option<(Waits, Instant)>,
}

/// How a call ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The answer is out.
    Answered {
        /// Its status.
        status: u16,
        /// Bytes of its body.
        bytes: u64,
        /// Whether the function's connection can carry another call.
        keeps: bool,
        /// Whether the caller's connection carries no other.
        close: bool,
    },
    /// There is no answer.
    Failed(ForwardError),
    /// The connection was closed as the request came: it can be sent on another.
    Stale,
    /// The answer, of this status, broke off after so many bytes.
    BrokenOff(u16, u64),
    /// The caller left.
    Left(Option<u16>, u64),
}

impl<'c> Exchange<'c> {
    /// A call whose request is `up`, on this connection.
    pub(super) fn new(
        caller: &'c mut Caller,
        asked: &'c Asked,
        bounds: &'c Bounds,
        up: &'c mut Transfer,
        connection: PlainConnection,
        stopping: bool,
    ) -> Self {
        Self {
            caller,
            asked,
            bounds,
            connection,
            reply: Buffer::default(),
            up,
            upload: Upload::UnderWay,
            down: None,
            stopping,
        }
    }

    /// Moves everything until the call has ended. Dropping this ends it.
    pub(super) async fn run(&mut self, endpoint: &Endpoint) -> Ended {
        poll_fn(|cx| self.poll(cx, endpoint)).await
    }

    /// The function's connection, after the call.
    pub(super) fn into_connection(self) -> PlainConnection {
        self.connection
    }

    fn poll(&mut self, cx: &mut Context<'_>, endpoint: &Endpoint) -> Poll<Ended> {
        if let Some(ended) = self.send(cx) {
            return Poll::Ready(ended);
        }
        if self.down.is_none() {
            match self.poll_head(cx, endpoint) {
                Poll::Ready(Ok(down)) => self.down = Some(down),
                Poll::Ready(Err(ended)) => return Poll::Ready(ended),
                Poll::Pending => {}
            }
        }
        if let Some(ended) = self.relay(cx) {
            return Poll::Ready(ended);
        }
        if !matches!(self.upload, Upload::UnderWay) && self.caller.has_left(cx) {
            return Poll::Ready(self.left());
        }
        self.overdue(cx)
    }

    /// Moves the request on.
    fn send(&mut self, cx: &mut Context<'_>) -> Option<Ended> {
        if !matches!(self.upload, Upload::UnderWay) {
            return None;
        }
        let Caller { socket, input, .. } = &mut *self.caller;
        let error = match self.up.poll(cx, socket, input, &mut self.connection) {
            Poll::Pending => return None,
            Poll::Ready(Ok(())) => {
                self.upload = Upload::Sent(if self.bounds.first_byte.is_some() {
                    Instant::now()
                } else {
                    self.asked.called
                });
                return None;
            }
            Poll::Ready(Err(Broken::Write(error))) => {
                // It may have answered before it closed.
                self.upload = Upload::Refused(error);
                return None;
            }
            Poll::Ready(Err(Broken::TooLarge(large))) => ForwardError::RequestTooLarge(large),
            Poll::Ready(Err(Broken::Malformed(why))) => ForwardError::Unreadable(why.to_string()),
            Poll::Ready(Err(Broken::Read(error))) => ForwardError::Unreadable(error.to_string()),
            Poll::Ready(Err(Broken::Early)) => ForwardError::Unreadable("the caller closed the connection".to_owned()),
        };
        Some(match &self.down {
            None => Ended::Failed(error),
            Some(_) => self.left(),
        })
    }

    /// Reads the answer's head and writes the one that the caller sees.
    fn poll_head(&mut self, cx: &mut Context<'_>, endpoint: &Endpoint) -> Poll<Result<Down, Ended>> {
        loop {
            let failed = |error| Ended::Failed(ForwardError::Broken(error));
            let malformed = |why| {
                failed(SendError::Malformed {
                    address: endpoint.address().described(),
                    why,
                })
            };
            match self.reply.poll_fill(cx, &mut self.connection, LARGE) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(self.lost(endpoint, io::ErrorKind::UnexpectedEof.into())));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.lost(endpoint, error))),
                Poll::Ready(Ok(_)) => {}
            }
            loop {
                let mut storage = answer::storage();
                match answer::read(&mut storage, self.reply.unread(), self.asked.is_head) {
                    Read::Partial => break,
                    Read::Interim(length) => {
                        self.reply.consume(length);
                    }
                    Read::Malformed(why) => return Poll::Ready(Err(malformed(why))),
                    Read::Final(head) if head.status == 101 => {
                        return Poll::Ready(Err(Ended::Failed(ForwardError::Switched)));
                    }
                    Read::Final(head) => {
                        let declared = head.body.known_length().unwrap_or_default();
                        if let Err(large) = TooLarge::check(declared, self.bounds.max_response) {
                            return Poll::Ready(Err(Ended::Failed(ForwardError::AnswerTooLarge(large))));
                        }
                        // An answer that comes before the whole request ends the connection, of
                        // which the caller has to know: it may have more to ask on it.
                        let close = self.asked.close || self.stopping || !self.up.is_received();
                        let (head, length, status, keeps, body) = self.write_head(&head, close);
                        self.reply.consume(length);
                        return Poll::Ready(Ok(Down {
                            transfer: Transfer::new(head, body, self.bounds.max_response),
                            status,
                            keeps,
                            close,
                            waits: None,
                        }));
                    }
                }
            }
            self.reply.rewind();
            if self.reply.is_full() && self.reply.start() > 0 {
                self.reply.compact();
            } else if self.reply.is_full() {
                if self.reply.size() >= MAX_HEAD {
                    return Poll::Ready(Err(malformed("its head is too large")));
                }
                self.reply.double();
            }
        }
    }

    fn write_head(&self, head: &answer::Head<'_, '_>, close: bool) -> (Vec<u8>, usize, u16, bool, Body) {
        let mut out = Vec::with_capacity(head.length + 512);
        date::with(SystemTime::now(), |date| {
            let added = Added {
                call: &self.asked.line,
                took: self.asked.called.elapsed(),
                date,
                close,
            };
            write::answer(&mut out, head, &added);
        });
        (out, head.length, head.status, head.keeps, head.body.clone())
    }

    /// The connection is gone and there was no answer.
    fn lost(&mut self, endpoint: &Endpoint, cause: io::Error) -> Ended {
        let nothing_came = self.reply.is_empty();
        let cause = match std::mem::replace(&mut self.upload, Upload::UnderWay) {
            Upload::Refused(error) => error,
            _ => cause,
        };
        let error = ForwardError::Broken(SendError::Lost {
            address: endpoint.address().described(),
            cause,
        });
        let again = self.asked.repeatable || self.up.is_untouched();
        if self.connection.is_reused() && nothing_came && again {
            Ended::Stale
        } else {
            Ended::Failed(error)
        }
    }

    /// Moves the answer on.
    fn relay(&mut self, cx: &mut Context<'_>) -> Option<Ended> {
        let down = self.down.as_mut()?;
        let before = down.transfer.moved();
        let polled = down
            .transfer
            .poll(cx, &mut self.connection, &mut self.reply, &mut self.caller.socket);
        match polled {
            Poll::Pending => {
                let waits = down.transfer.waits();
                let same = down.waits.is_some_and(|(on, _)| on == waits) && down.transfer.moved() == before;
                if !same && (waits == Waits::Writing || self.bounds.idle.is_some()) {
                    down.waits = Some((waits, Instant::now()));
                }
                None
            }
            Poll::Ready(Ok(())) => {
                let sent = matches!(self.upload, Upload::Sent(_));
                let (status, bytes) = (down.status, down.transfer.data());
                let keeps = down.keeps && sent && self.reply.is_empty();
                let close = down.close;
                Some(Ended::Answered {
                    status,
                    bytes,
                    keeps,
                    close,
                })
            }
            Poll::Ready(Err(Broken::Write(_))) => Some(self.left()),
            Poll::Ready(Err(_)) => Some(self.broken_off()),
        }
    }

    /// Ends the call when a bound has passed.
    fn overdue(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let (due, ended) = self.due();
        std::task::ready!(self.caller.alarm.poll(cx, due.at));
        Poll::Ready(match ended {
            Some(error) => Ended::Failed(error),
            None => self.broken_off(),
        })
    }

    /// The bound that passes first, and what it means for a call without an answer.
    fn due(&self) -> (Deadline, Option<ForwardError>) {
        let answer = self.bounds.answer;
        let uploading = matches!(self.upload, Upload::UnderWay);
        let due = if uploading {
            answer.or_earlier(self.bounds.receive)
        } else {
            answer
        };
        let Some(down) = &self.down else {
            let due = match (&self.upload, self.bounds.first_byte) {
                (Upload::Sent(since), Some(first)) => due.or_earlier(Deadline::new(*since, first.after, first.setting)),
                _ => due,
            };
            let error = if uploading && self.up.waits() == Waits::Reading {
                ForwardError::ReceiveTimeout(due.passed)
            } else {
                ForwardError::AnswerTimeout(due.passed)
            };
            return (due, Some(error));
        };
        let due = match (down.waits, self.bounds.idle) {
            (Some((Waits::Writing, since)), _) => {
                due.or_earlier(Deadline::new(since, self.bounds.write, "server.write_timeout"))
            }
            (Some((Waits::Reading, since)), Some(idle)) => {
                due.or_earlier(Deadline::new(since, idle.after, idle.setting))
            }
            _ => due,
        };
        (due, None)
    }

    fn broken_off(&self) -> Ended {
        match &self.down {
            Some(down) => Ended::BrokenOff(down.status, down.transfer.data()),
            None => Ended::Left(None, 0),
        }
    }

    fn left(&self) -> Ended {
        let down = self.down.as_ref();
        Ended::Left(
            down.map(|down| down.status),
            down.map_or(0, |down| down.transfer.data()),
        )
    }
}
