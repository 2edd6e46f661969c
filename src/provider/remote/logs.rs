//! Reading a log stream: one JSON message a line, in chunks that end anywhere.

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{StreamExt, stream};

use super::{
    super::{LogStream, ProviderError, Result},
    rest,
};
use crate::model::{LogMessage, from_json};

/// Longest line taken. Watchdogs cut lines at 64 KiB by default.
const MAX_LINE: usize = 4 << 20;

/// The messages of an answer. A line that cannot be read is an error in its
/// place; the stream goes on after it. A connection that breaks is the last item.
pub(super) fn stream(response: reqwest::Response) -> LogStream {
    let chunks = response
        .bytes_stream()
        .map(|chunk| chunk.map_err(rest::unreachable))
        .boxed();
    let state = (chunks, Some(Lines::default()));
    stream::unfold(state, |(mut chunks, lines)| async move {
        let mut lines = lines?;
        loop {
            match lines.next() {
                Ok(Some(line)) if line.trim_ascii().is_empty() => {}
                Ok(Some(line)) => return Some((message(&line), (chunks, Some(lines)))),
                Err(error) => return Some((Err(error), (chunks, None))),
                Ok(None) => match chunks.next().await {
                    Some(Ok(chunk)) => lines.push(&chunk),
                    Some(Err(error)) => return Some((Err(error), (chunks, None))),
                    None => {
                        let last = lines.finish();
                        let last = Some(last).filter(|line| !line.trim_ascii().is_empty())?;
                        return Some((message(&last), (chunks, None)));
                    }
                },
            }
        }
    })
    .boxed()
}

fn message(line: &[u8]) -> Result<LogMessage> {
    from_json(line)
        .map_err(|error| ProviderError::Internal(format!("cannot read a log line from the provider: {error}")))
}

/// Cuts a stream of chunks at its newlines.
#[derive(Debug, Default)]
struct Lines {
    buffer: BytesMut,
    /// Bytes at the start of the buffer that have no newline in them.
    searched: usize,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole line without its newline; `None` until more is pushed.
    fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(offset) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(self.searched + offset).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            return Ok(Some(line));
        }
        self.searched = self.buffer.len();
        if self.searched > MAX_LINE {
            return Err(ProviderError::Internal(format!(
                "a log line from the provider is longer than {MAX_LINE} bytes"
            )));
        }
        Ok(None)
    }

    /// What is left after the last newline.
    fn finish(self) -> Bytes {
        self.buffer.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&str]) -> Vec<String> {
        let text = |line: Bytes| String::from_utf8(line.to_vec()).expect("text");
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            lines.push(chunk.as_bytes());
            while let Some(line) = lines.next().expect("short lines") {
                seen.push(text(line));
            }
        }
        seen.push(text(lines.finish()));
        seen
    }

    #[test]
    fn lines_do_not_depend_on_chunks() {
        for chunks in [
            &["one\ntwo\n\nthree"][..],
            &["o", "ne", "\n", "two\n", "\nthree"],
            &["one\nt", "wo", "\n\nth", "", "ree"],
        ] {
            assert_eq!(cut(chunks), ["one", "two", "", "three"], "{chunks:?}");
        }
    }

    #[test]
    fn a_line_has_an_end() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; MAX_LINE + 1]);
        assert!(lines.next().is_err());
    }
}
