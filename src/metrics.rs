//! Every metric name, label and bucket, once.

/// All metrics of the process.
#[derive(Debug, Default)]
pub struct Metrics {}
