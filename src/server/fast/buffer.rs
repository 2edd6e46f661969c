//! Bytes that came and were not used yet.
//!
//! A connection that waits holds no memory for this, within a call as between
//! two: buffers are taken from a store of the thread to read into, and go back when
//! there was nothing to read.

use std::{
    cell::RefCell,
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

/// Room for a head and a small body.
pub(super) const SMALL: usize = 16 * 1024;

/// Room for a piece of a large body. With half of it large answers cost a fifth more: the
/// sender is told twice as often that there is room again. With more they cost little less,
/// and each slow receiver keeps one.
pub(super) const LARGE: usize = 128 * 1024;

/// Buffers kept by a thread, of each size.
const KEPT_SMALL: usize = 128;
const KEPT_LARGE: usize = 8;

thread_local! {
    static STORE: RefCell<Store> = const { RefCell::new(Store { small: Vec::new(), large: Vec::new() }) };
}

struct Store {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

fn take(size: usize) -> Vec<u8> {
    let kept = STORE.with_borrow_mut(|store| {
        let list = if size == SMALL {
            &mut store.small
        } else {
            &mut store.large
        };
        list.pop()
    });
    kept.unwrap_or_else(|| vec![0; size])
}

fn give_back(bytes: Vec<u8>) {
    if bytes.len() != SMALL && bytes.len() != LARGE {
        return;
    }
    // Fails only while the thread ends; then nobody needs them.
    let _ = STORE.try_with(|store| {
        let mut store = store.borrow_mut();
        let (list, most) = if bytes.len() == SMALL {
            (&mut store.small, KEPT_SMALL)
        } else {
            (&mut store.large, KEPT_LARGE)
        };
        if list.len() < most {
            list.push(bytes);
        }
    });
}

/// Bytes from a connection, `unread` ones between `start` and `end`.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// Empty, or of one of the two sizes, or larger for a head that is.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Something that is used already has still to be found in its place.
    held: bool,
}

impl Buffer {
    /// What was not used yet.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Where the unread bytes begin, for [`Buffer::at`].
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Bytes by their place, which stays the same until room is made.
    pub(super) fn at(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// The bytes by their place, to be moved.
    pub(super) fn all_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Marks bytes as used.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
    }

    /// Says whether what was used has to stay in its place, beside what is unread.
    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Gives the memory back when nothing is unread; what was held is not any more.
    pub(super) fn release(&mut self) {
        self.held = false;
        if self.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            (self.start, self.end) = (0, 0);
            if !bytes.is_empty() {
                give_back(bytes);
            }
        }
    }

    /// Starts over at the beginning when nothing is unread, at no cost.
    pub(super) fn rewind(&mut self) {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Moves what is unread to the beginning.
    pub(super) fn compact(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }

    /// Has room for large pieces from now on.
    pub(super) fn enlarge(&mut self) {
        if self.bytes.len() < LARGE {
            self.move_to(take(LARGE));
        }
    }

    /// Has twice the room from now on.
    pub(super) fn double(&mut self) {
        self.move_to(vec![0; self.bytes.len() * 2]);
    }

    /// How much it has room for, unread bytes included.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    fn move_to(&mut self, mut larger: Vec<u8>) {
        let unread = self.unread();
        let count = unread.len();
        larger[..count].copy_from_slice(unread);
        let smaller = std::mem::replace(&mut self.bytes, larger);
        (self.start, self.end) = (0, count);
        if !smaller.is_empty() {
            give_back(smaller);
        }
    }

    /// Whether there is no room behind the unread bytes.
    pub(super) fn is_full(&self) -> bool {
        !self.bytes.is_empty() && self.end == self.bytes.len()
    }

    /// Reads what comes, at most `most` bytes; 0 is the end of the connection.
    /// There must be room. While nothing comes and nothing is unread or held, it has no memory.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.is_empty() {
            self.bytes = take(SMALL);
        }
        let until = self.bytes.len().min(self.end.saturating_add(most));
        let mut room = ReadBuf::new(&mut self.bytes[self.end..until]);
        let Poll::Ready(read) = Pin::new(from).poll_read(cx, &mut room) else {
            if !self.held {
                // The next call on this thread gets it while it is still in the processor's cache.
                self.release();
            }
            return Poll::Pending;
        };
        read?;
        let count = room.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            give_back(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffer: &mut Buffer, mut bytes: &[u8], most: usize) -> usize {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match buffer.poll_fill(&mut context, &mut bytes, most) {
            Poll::Ready(count) => count.expect("readable"),
            Poll::Pending => panic!("a slice is always ready"),
        }
    }

    #[tokio::test]
    async fn there_is_no_memory_while_nothing_comes() {
        let (mut near, _far) = tokio::io::duplex(8);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut buffer = Buffer::default();
        assert!(buffer.poll_fill(&mut context, &mut near, LARGE).is_pending());
        assert_eq!(buffer.size(), 0);
        fill(&mut buffer, b"unread", usize::MAX);
        assert!(buffer.poll_fill(&mut context, &mut near, LARGE).is_pending());
        assert_eq!(buffer.unread(), b"unread");
    }

    #[test]
    fn bytes_are_used_in_order_and_memory_goes_back() {
        let mut buffer = Buffer::default();
        assert_eq!(fill(&mut buffer, b"hello world", 100), 11);
        buffer.consume(6);
        assert_eq!(buffer.unread(), b"world");
        buffer.release();
        assert!(!buffer.bytes.is_empty(), "something is unread");
        buffer.compact();
        assert_eq!((buffer.start(), buffer.unread()), (0, &b"world"[..]));
        buffer.enlarge();
        assert_eq!((buffer.bytes.len(), buffer.unread()), (LARGE, &b"world"[..]));
        assert_eq!(fill(&mut buffer, b"!?", 1), 1);
        assert_eq!(buffer.unread(), b"world!");
        buffer.consume(6);
        buffer.release();
        assert!(buffer.bytes.is_empty());
    }

    #[test]
    fn a_full_buffer_says_so() {
        let mut buffer = Buffer::default();
        assert!(!buffer.is_full());
        assert_eq!(fill(&mut buffer, &vec![7; SMALL + 1], usize::MAX), SMALL);
        assert!(buffer.is_full());
        buffer.consume(SMALL);
        buffer.rewind();
        assert!(!buffer.is_full());
    }
}
