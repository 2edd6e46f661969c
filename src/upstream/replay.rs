//! A request that can be sent again because nobody has looked at it.
//!
//! A server that closes a connection, or has too much to do, says which of the
//! calls on it it never began (RFC 9113 section 8.7). Part of such a call's
//! body is on its way by then, so the beginning of each is kept until there is
//! an answer. Whether a request may be sent again is not decided here.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, request::Parts};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::{Body, BoxError};

/// How much of a body is kept.
const KEPT: usize = 64 << 10;

/// A request whose body's beginning is kept.
pub(super) struct Replay {
    parts: Parts,
    state: Arc<Mutex<State>>,
}

struct State {
    body: Body,
    /// Which reader is the current one; earlier ones get nothing.
    reader: u32,
    /// What was read of the body and may be read again.
    kept: Vec<Piece>,
    /// How many of those the current reader has.
    next: usize,
    /// Bytes in `kept`; `None` when no more is kept, because it is too much or
    /// there is an answer.
    bytes: Option<usize>,
    ended: bool,
    failed: Option<BodyError>,
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(http::HeaderMap),
}

/// Why a body could not be read, for both who sends and who asked.
#[derive(Debug, Clone)]
pub struct BodyError(Arc<BoxError>);

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&**self.0)
    }
}

impl BodyError {
    /// What was told.
    pub fn cause(&self) -> &(dyn std::error::Error + 'static) {
        &**self.0
    }
}

impl Replay {
    /// The request for its first try, and what it takes to make another.
    pub(super) fn of(request: Request<Body>) -> (Self, Request<Body>) {
        let (parts, body) = request.into_parts();
        let state = Arc::new(Mutex::new(State {
            body,
            reader: 0,
            kept: Vec::new(),
            next: 0,
            bytes: Some(0),
            ended: false,
            failed: None,
        }));
        let replay = Self { parts, state };
        let request = replay.read_by(0);
        (replay, request)
    }

    fn read_by(&self, number: u32) -> Request<Body> {
        let state = Arc::clone(&self.state);
        let reader = Reader { state, number };
        Request::from_parts(self.parts.clone(), reader.boxed_unsync())
    }

    /// The request from its beginning; `None` when that is not there any more.
    /// Who was given it before gets no more of it.
    pub(super) fn request(&self) -> Option<Request<Body>> {
        let mut state = lock(&self.state);
        if state.bytes.is_none() || state.failed.is_some() {
            return None;
        }
        state.reader += 1;
        state.next = 0;
        let number = state.reader;
        drop(state);
        Some(self.read_by(number))
    }

    /// Why the body could not be read.
    pub(super) fn failed(&self) -> Option<BodyError> {
        lock(&self.state).failed.clone()
    }

    /// There is an answer: nothing is kept any more.
    pub(super) fn answered(self) {
        let mut state = lock(&self.state);
        let read = state.next;
        state.forget(read);
    }
}

impl State {
    /// Keeps no more, and lets go of the first `read` pieces.
    fn forget(&mut self, read: usize) {
        self.bytes = None;
        self.kept.drain(..read);
        self.next = 0;
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        if let Some(piece) = self.kept.get(self.next).cloned() {
            self.next += 1;
            if self.bytes.is_none() {
                self.forget(1);
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                let error = BodyError(Arc::new(error));
                self.failed = Some(error.clone());
                self.ended = true;
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Piece::Data(data),
                Err(frame) => Piece::Trailers(frame.into_trailers().unwrap_or_default()),
            },
        };
        let length = match &piece {
            Piece::Data(data) => data.len(),
            Piece::Trailers(_) => 0,
        };
        match self.bytes.map(|bytes| bytes + length) {
            Some(bytes) if bytes <= KEPT => {
                self.bytes = Some(bytes);
                self.kept.push(piece.clone());
                self.next += 1;
            }
            Some(_) => {
                let read = self.next;
                self.forget(read);
            }
            None => {}
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body as one try reads it.
struct Reader {
    state: Arc<Mutex<State>>,
    number: u32,
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut state = lock(&self.state);
        if state.reader != self.number {
            return Poll::Ready(Some(Err("the request is sent again".into())));
        }
        let piece = ready!(state.poll_piece(cx));
        Poll::Ready(piece.map(|piece| match piece {
            Ok(Piece::Data(data)) => Ok(Frame::data(data)),
            Ok(Piece::Trailers(trailers)) => Ok(Frame::trailers(trailers)),
            Err(error) => Err(error.into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.state);
        state.next >= state.kept.len() && (state.ended || state.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let state = lock(&self.state);
        let ahead = state.kept[state.next.min(state.kept.len())..].iter();
        let ahead: usize = ahead
            .map(|piece| match piece {
                Piece::Data(data) => data.len(),
                Piece::Trailers(_) => 0,
            })
            .sum();
        let ahead = ahead as u64;
        let rest = state.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, stream};
    use http::HeaderMap;
    use http_body_util::StreamBody;

    use super::*;

    fn replay(pieces: Vec<Result<Frame<Bytes>, BoxError>>) -> (Replay, Request<Body>) {
        Replay::of(Request::new(StreamBody::new(stream::iter(pieces)).boxed_unsync()))
    }

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    /// The next piece, as text; trailers are `trailers`, the end is `end`.
    fn next(request: &mut Request<Body>) -> String {
        match request.body_mut().frame().now_or_never().expect("nothing to wait for") {
            None => "end".to_owned(),
            Some(Err(error)) => format!("error: {error}"),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => String::from_utf8_lossy(&data).into_owned(),
                Err(_) => "trailers".to_owned(),
            },
        }
    }

    #[test]
    fn each_try_reads_all_of_it() {
        let (replay, mut first) = replay(vec![
            Ok(data("a")),
            Ok(data("b")),
            Ok(Frame::trailers(HeaderMap::new())),
        ]);
        assert_eq!([next(&mut first), next(&mut first)], ["a", "b"]);
        let mut second = replay.request().expect("whole");
        assert_eq!(next(&mut second), "a");
        assert_eq!(next(&mut first), "error: the request is sent again");
        replay.answered();
        let rest: Vec<_> = (0..3).map(|_| next(&mut second)).collect();
        assert_eq!(rest, ["b", "trailers", "end"]);
    }

    #[test]
    fn what_is_long_is_sent_once() {
        let long: &'static str = Box::leak("x".repeat(40 << 10).into_boxed_str());
        let (replay, mut first) = replay(vec![Ok(data(long)), Ok(data(long)), Ok(data("c"))]);
        assert_eq!(next(&mut first).len(), long.len());
        assert!(replay.request().is_some(), "still short");
        let mut again = replay.request().expect("still short");
        assert_eq!([next(&mut again).len(), next(&mut again).len()], [long.len(); 2]);
        assert!(replay.request().is_none());
        assert_eq!([next(&mut again), next(&mut again)], ["c", "end"]);
    }

    #[test]
    fn who_asked_learns_why_the_body_failed() {
        let (replay, mut first) = replay(vec![Ok(data("a")), Err("gone".into())]);
        assert_eq!([next(&mut first), next(&mut first)], ["a", "error: gone"]);
        assert_eq!(replay.failed().expect("told").to_string(), "gone");
        assert!(replay.request().is_none());
    }
}
