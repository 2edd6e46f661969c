//! Which of several gateways scales. Two that decide from the same numbers at
//! slightly different times would undo each other's work.

/// Who may scale now.
pub trait Lease: Send + Sync + 'static {
    /// Whether this gateway may.
    fn is_held(&self) -> bool;

    /// The gateway that may, where it is known.
    fn holder(&self) -> Option<String>;
}

/// For a gateway that has no others beside it.
#[derive(Debug, Default)]
pub struct Alone;

impl Lease for Alone {
    fn is_held(&self) -> bool {
        true
    }

    fn holder(&self) -> Option<String> {
        None
    }
}
