//! The lines a replica leaves: its watchdog's and the function's own.
//!
//! They go to stdout and stderr, where the provider collects them line by line
//! and adds time, name and instance. Lines of the watchdog go to stderr, as
//! OpenFaaS's do. Nothing is filtered here.

use std::{fmt, io::Write};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Which of the process's outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a function's own lines are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    /// Put the time and the stream before each line.
    pub(super) prefix: bool,
    /// Longest line in bytes; a longer one is cut into pieces.
    pub(super) longest: Option<usize>,
}

/// Writes a line of the watchdog itself.
pub(super) fn note(line: fmt::Arguments<'_>) {
    // When stderr is gone there is nobody left to tell, and a call must not
    // fail for want of a reader.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

impl Lines {
    /// Copies a function's output to ours, line by line, until it ends.
    pub(super) async fn copy(self, source: Source, mut output: impl AsyncRead + Unpin) {
        let mut splitter = Splitter::new(self.longest);
        let mut buffer = vec![0; 8192];
        loop {
            match output.read(&mut buffer).await {
                Ok(0) => break,
                Ok(count) => splitter.push(&buffer[..count], |line| self.write(source, line)),
                Err(error) => {
                    note(format_args!("cannot read the function's output: {error}"));
                    break;
                }
            }
        }
        splitter.finish(|line| self.write(source, line));
    }

    fn write(self, source: Source, line: &[u8]) {
        let mut text = Vec::with_capacity(line.len() + 32);
        if self.prefix {
            let name = match source {
                Source::Stdout => "stdout",
                Source::Stderr => "stderr",
            };
            let now = chrono::Local::now().format("%Y/%m/%d %H:%M:%S");
            text.extend_from_slice(format!("{now} {name}: ").as_bytes());
        }
        text.extend_from_slice(line);
        text.push(b'\n');
        // As in `note`: without a reader there is nobody to tell.
        let _ = match source {
            Source::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(&text).and_then(|()| out.flush())
            }
            Source::Stderr => std::io::stderr().lock().write_all(&text),
        };
    }
}

/// Cuts bytes into lines.
struct Splitter {
    longest: usize,
    pending: Vec<u8>,
}

impl Splitter {
    fn new(longest: Option<usize>) -> Self {
        Self {
            longest: longest.unwrap_or(usize::MAX),
            pending: Vec::new(),
        }
    }

    fn push(&mut self, mut bytes: &[u8], mut emit: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            if self.pending.len() >= self.longest {
                // A full line whose end comes right now is one line, not two.
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
                self.emit(&mut emit);
                continue;
            }
            let window = &bytes[..bytes.len().min(self.longest - self.pending.len())];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                self.pending.extend_from_slice(&window[..end]);
                bytes = &bytes[end + 1..];
                self.emit(&mut emit);
            } else {
                self.pending.extend_from_slice(window);
                bytes = &bytes[window.len()..];
            }
        }
    }

    fn finish(&mut self, mut emit: impl FnMut(&[u8])) {
        if !self.pending.is_empty() {
            self.emit(&mut emit);
        }
    }

    fn emit(&mut self, emit: &mut impl FnMut(&[u8])) {
        let line = self.pending.strip_suffix(b"\r").unwrap_or(&self.pending);
        emit(line);
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(longest: Option<usize>, pieces: &[&str]) -> Vec<String> {
        let mut splitter = Splitter::new(longest);
        let mut lines = Vec::new();
        let mut keep = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
        for piece in pieces {
            splitter.push(piece.as_bytes(), &mut keep);
        }
        splitter.finish(&mut keep);
        lines
    }

    #[test]
    fn output_becomes_lines() {
        for (longest, pieces, lines) in [
            (None, vec!["a\nb\n"], vec!["a", "b"]),
            (None, vec!["a", "b\nc"], vec!["ab", "c"]),
            (None, vec!["a\r\n\nb"], vec!["a", "", "b"]),
            (Some(3), vec!["abcdefgh\nx\n"], vec!["abc", "def", "gh", "x"]),
            (Some(3), vec!["abc\ndef\n"], vec!["abc", "def"]),
            (Some(3), vec!["ab", "cd"], vec!["abc", "d"]),
            (Some(3), vec!["abc", "\nd"], vec!["abc", "d"]),
            (Some(1), vec!["ab\n\n"], vec!["a", "b", ""]),
        ] {
            assert_eq!(split(longest, &pieces), lines, "{pieces:?}");
        }
    }
}
