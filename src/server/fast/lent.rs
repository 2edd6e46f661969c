//! A connection lent to the base lane for what is no plain call.
//!
//! The base lane's HTTP library gets the bytes of one request after the other
//! and no more, so that at each boundary the next head can be looked at: while
//! it is not plain either, it goes the same way; when it is, the library is told
//! that the connection has ended, and the connection is back. A connection
//! whose requests have no boundary to see (HTTP/2, chunked bodies, protocols
//! that were switched to) is not taken back.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Caller,
    buffer::LARGE,
    plan::{self, Plan},
};
use crate::{
    proxy::fast::head::{self, Read},
    server::{
        Service,
        activity::{Activity, Limits},
        linger::Lingering,
        listener,
    },
    shutdown::Stop,
};

/// Where a connection is when nobody uses it.
type Home = Arc<Mutex<Option<Caller>>>;

/// A connection as the base lane sees it.
struct Lent {
    caller: Option<Caller>,
    home: Home,
    service: Service,
    activity: Arc<Activity>,
    /// How many more bytes belong to the request under way; `None` is all of them.
    allowed: Option<u64>,
    /// The base lane was told that there is nothing more.
    ended: bool,
}

/// Serves requests until one is plain; `None` when the connection has ended.
/// `fresh` is for a connection that carried no request before.
pub(super) async fn serve(
    caller: Caller,
    service: &Service,
    limits: Limits,
    stop: &Stop,
    fresh: bool,
) -> Option<Caller> {
    let peer = caller.peer;
    let home = Home::default();
    let activity = Activity::new(limits, caller.served);
    let lent = Lent {
        allowed: whole_request(&caller),
        caller: Some(caller),
        home: Arc::clone(&home),
        service: service.clone(),
        activity: Arc::clone(&activity),
        ended: false,
    };
    let stream = Lingering::new(lent, Arc::clone(&activity));
    listener::base(
        stream,
        peer,
        service.clone(),
        Arc::clone(&activity),
        stop.clone(),
        fresh,
    )
    .await;
    let mut home = home.lock().unwrap_or_else(PoisonError::into_inner);
    let mut caller = home.take()?;
    caller.served = activity.served();
    Some(caller)
}

/// The length of the request at the beginning of what came, where it can be
/// told and nobody could tell otherwise.
fn whole_request(caller: &Caller) -> Option<u64> {
    let mut storage = head::storage();
    match head::read(&mut storage, caller.input.unread()) {
        Read::Plain(head) => Some(head.body.known_length()? + head.length as u64),
        Read::Partial | Read::Doubtful => None,
    }
}

impl Lent {
    /// Looks at the next request; ready when it is the base lane's too, or when
    /// there is nothing more for it.
    fn poll_boundary(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(caller) = &mut self.caller else {
            return Poll::Ready(Ok(()));
        };
        loop {
            if !caller.input.is_empty() {
                match plan::look(&caller.input, &self.service) {
                    Plan::Call(()) => {
                        self.ended = true;
                        return Poll::Ready(Ok(()));
                    }
                    Plan::Base => {
                        self.allowed = whole_request(caller);
                        return Poll::Ready(Ok(()));
                    }
                    Plan::Partial => caller.make_room(),
                }
            }
            if ready!(caller.input.poll_fill(cx, &mut caller.socket, LARGE))? == 0 {
                self.allowed = None;
                return Poll::Ready(Ok(()));
            }
            self.activity.received();
        }
    }

    /// Notices that the caller leaves while its request is under way.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(Caller { socket, input, .. }) = &mut self.caller else {
            return Poll::Ready(Ok(()));
        };
        while !input.is_full() {
            if ready!(input.poll_fill(cx, socket, LARGE))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    /// Reads of the request under way: what was read before, then what comes.
    fn poll_request(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(Caller { socket, input, .. }) = &mut self.caller else {
            return Poll::Ready(Ok(()));
        };
        let most = self
            .allowed
            .map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let count = if input.is_empty() {
            input.release();
            if self.allowed.is_none() {
                return Pin::new(socket).poll_read(cx, buf);
            }
            let room = buf.remaining().min(most).min(LARGE);
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
            ready!(Pin::new(socket).poll_read(cx, &mut part))?;
            let count = part.filled().len();
            buf.advance(count);
            count
        } else {
            let count = input.unread().len().min(buf.remaining()).min(most);
            buf.put_slice(&input.unread()[..count]);
            input.consume(count);
            count
        };
        if let Some(left) = &mut self.allowed {
            *left -= count as u64;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Lent {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.allowed == Some(0) && !this.ended {
            if this.activity.poll_quiet(cx).is_pending() {
                return this.poll_end(cx);
            }
            ready!(this.poll_boundary(cx))?;
        }
        if this.ended {
            return Poll::Ready(Ok(()));
        }
        this.poll_request(cx, buf)
    }
}

impl AsyncWrite for Lent {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.caller {
            Some(caller) => Pin::new(&mut caller.socket).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.caller {
            Some(caller) => Pin::new(&mut caller.socket).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.ended;
        match &mut self.caller {
            // It is not at its end: only the base lane's part of it is.
            Some(caller) if !ended => Pin::new(&mut caller.socket).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.caller {
            Some(caller) => Pin::new(&mut caller.socket).poll_write_vectored(cx, bufs),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.caller
            .as_ref()
            .is_some_and(|caller| caller.socket.is_write_vectored())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.ended {
            let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
            *home = self.caller.take();
        }
    }
}
