//! Who may use the API and the portal.

/// The rules built from `[auth]`.
#[derive(Debug, Clone, Default)]
pub struct Auth {}
