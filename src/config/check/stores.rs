//! `[[stores]]`: names that tell them apart, and one place for each.

use super::Found;
use crate::config::{EMBEDDED_STORE, Store};

/// Checks all stores.
pub(super) fn check(stores: &[Store], found: &mut Found) {
    for (index, store) in stores.iter().enumerate() {
        let key = |name: &str| vec!["stores".to_owned(), index.to_string(), name.to_owned()];
        if store.name.trim().is_empty() || store.name.contains(char::is_control) {
            found.error_at(vec![key("name")], "must be a name of some characters");
        }
        if let Some(first) = stores[..index].iter().position(|other| other.name == store.name) {
            let beside = ["stores", &first.to_string(), "name"].map(str::to_owned).to_vec();
            found.error_beside(vec![key("name")], "is the name of another store", beside);
        }
        if store.ttl.is_some_and(|ttl| ttl.is_zero()) {
            found.error_at(vec![key("ttl")], "must be longer than zero");
        }
        let is_embedded = store.name == EMBEDDED_STORE;
        match (&store.url, &store.path) {
            (Some(_), Some(_)) => found.error_at(
                vec![key("path"), key("url")],
                "does not go with url: a store comes from one of the two",
            ),
            (None, None) if !is_embedded => {
                found.error_at(vec![key("name")], "is a store without a list: it needs url or path");
            }
            (None, None) => {}
            (url, _) if is_embedded => found.error_at(
                vec![key(if url.is_some() { "url" } else { "path" })],
                "does not go with the name \"embedded\", which is the store in the binary; choose another name",
            ),
            _ => {}
        }
        if store.url.is_none() && store.allow_private.is_some() {
            found.error_at(
                vec![key("allow_private")],
                "is about the host of url, and there is none",
            );
        }
    }
}
