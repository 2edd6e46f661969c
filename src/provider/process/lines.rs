//! Cutting a replica's output into lines.

/// Longest line kept whole, in bytes; the rest becomes further lines.
const MAX_LINE: usize = 64 * 1024;

/// Bytes that are not a whole line yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Adds output and returns the lines it completes, without line ends. What
    /// is not UTF-8 is replaced, because log messages are JSON.
    pub(super) fn push(&mut self, mut output: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(end) = output.iter().position(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(&output[..end]);
            lines.push(self.take());
            output = &output[end + 1..];
        }
        self.partial.extend_from_slice(output);
        while self.partial.len() > MAX_LINE {
            let rest = self.partial.split_off(MAX_LINE);
            lines.push(self.take());
            self.partial = rest;
        }
        lines
    }

    /// What is left when the output ended without a line end.
    pub(super) fn finish(mut self) -> Option<String> {
        (!self.partial.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> String {
        let line = std::mem::take(&mut self.partial);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        String::from_utf8_lossy(line).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_across_reads() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"one\ntw"), ["one"]);
        assert_eq!(lines.push(b"o\r\n\nthr"), ["two", ""]);
        assert_eq!(lines.push(b"\xff"), [""; 0]);
        assert_eq!(lines.finish().as_deref(), Some("thr\u{fffd}"));
        assert_eq!(Lines::default().finish(), None);
    }

    #[test]
    fn endless_lines_are_cut() {
        let mut lines = Lines::default();
        let out = lines.push(&vec![b'x'; 2 * MAX_LINE + 5]);
        assert_eq!(out.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, MAX_LINE]);
        assert_eq!(lines.finish().map(|rest| rest.len()), Some(5));
    }
}
