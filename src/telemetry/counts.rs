//! What was lost on its way out of the process, and what was not: read by
//! [`crate::metrics`], which is above this module.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted since the process began; the same value under every configuration.
#[derive(Debug, Default)]
pub struct Counts {
    access_lines_dropped: AtomicU64,
    other_lines_dropped: AtomicU64,
    spans_exported: AtomicU64,
    spans_dropped: [AtomicU64; Lost::ALL.len()],
    export_failures: AtomicU64,
}

/// What a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// One of the access log.
    Access,
    /// Any other.
    Other,
}

/// Why a span was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// As many wait as may.
    QueueFull,
    /// The receiver could not be reached, or would not take it.
    ExportFailed,
    /// The receiver took others but not this one.
    Rejected,
}

impl Lost {
    /// Each of them, in the order of its number.
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::ExportFailed, Self::Rejected];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ExportFailed => "export_failed",
            Self::Rejected => "rejected",
        }
    }
}

impl Counts {
    /// Lines of the access log that were not written.
    pub fn access_lines_dropped(&self) -> u64 {
        self.access_lines_dropped.load(Ordering::Relaxed)
    }

    /// Other log lines that were not written.
    pub fn other_lines_dropped(&self) -> u64 {
        self.other_lines_dropped.load(Ordering::Relaxed)
    }

    /// Spans that the receiver took.
    pub fn spans_exported(&self) -> u64 {
        self.spans_exported.load(Ordering::Relaxed)
    }

    /// Spans that were lost, for this reason.
    pub fn spans_dropped(&self, why: Lost) -> u64 {
        self.spans_dropped[why as usize].load(Ordering::Relaxed)
    }

    /// Requests to the receiver that failed.
    pub fn export_failures(&self) -> u64 {
        self.export_failures.load(Ordering::Relaxed)
    }

    pub(super) fn line_dropped(&self, class: Class) {
        let counter = match class {
            Class::Access => &self.access_lines_dropped,
            Class::Other => &self.other_lines_dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn exported(&self, spans: u64) {
        self.spans_exported.fetch_add(spans, Ordering::Relaxed);
    }

    pub(super) fn lost(&self, why: Lost, spans: u64) {
        self.spans_dropped[why as usize].fetch_add(spans, Ordering::Relaxed);
    }

    pub(super) fn export_failed(&self) {
        self.export_failures.fetch_add(1, Ordering::Relaxed);
    }
}
