//! `/openapi/functions.json`: the functions' own contracts as one document.
//!
//! Protected like the list of functions: their names are nobody else's business.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use poem::{Response, http::HeaderMap};

use super::portal::File;
use crate::snapshot::Snapshot;

/// Where the document is.
pub(super) const PATH: &str = "/openapi/functions.json";

/// The document as it was last asked for: it has the size of all functions'
/// together, so it is written when something in it changed.
#[derive(Default)]
pub(super) struct FunctionsDocument(ArcSwapOption<Written>);

struct Written {
    /// What it was made from.
    key: (String, u64, u64),
    file: File,
}

impl FunctionsDocument {
    /// The document, for callers at `server`: a path or a URL.
    pub(super) fn serve(&self, snapshot: &Snapshot, server: String, request: &HeaderMap) -> Response {
        let key = (server, snapshot.contracts.version(), snapshot.generation);
        if let Some(known) = self.0.load_full().filter(|known| known.key == key) {
            return known.file.response(request);
        }
        let internal = |function: &_| snapshot.config.function(function).internal;
        let document = snapshot.contracts.merged(&key.0, internal);
        let file = File::new("application/json", None, format!("{document:#}\n"));
        let written = Arc::new(Written { key, file });
        self.0.store(Some(Arc::clone(&written)));
        written.file.response(request)
    }
}
