//! `[[stores]]`: where lists of functions come from.

use std::{path::PathBuf, time::Duration};

use url::Url;

use super::setting::section;

/// Name of the store in the binary.
pub const EMBEDDED_STORE: &str = "embedded";

/// How long a list that was fetched counts as fresh, where nothing says otherwise.
const URL_TTL: Duration = Duration::from_secs(60 * 60);

/// How often a file is looked at, at most, where nothing says otherwise.
const PATH_TTL: Duration = Duration::from_secs(5);

section! {
    /// `[[stores]]`: a list of functions to choose from.
    pub struct Store {
        /// Its name; `embedded` is the one in the binary, which has neither `url` nor `path`.
        pub name: String,
        /// Whether it is used; by default it is.
        pub enabled: Option<bool>,
        /// Where the list is fetched.
        pub url: Option<Url>,
        /// A file with the list.
        pub path: Option<PathBuf>,
        /// How long a list counts as fresh; by default an hour for `url`, and for `path` 5 seconds.
        pub ttl: Option<Duration>,
        /// Which store is shown first: the one with the highest number; by default 0.
        pub priority: Option<u32>,
        /// Permit that the host of `url` is on this machine or in a private network.
        pub allow_private: Option<bool>,
    }
}

impl Store {
    /// Whether it is used.
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }

    /// How long a list counts as fresh.
    pub fn ttl(&self) -> Duration {
        let usual = if self.url.is_some() { URL_TTL } else { PATH_TTL };
        self.ttl.unwrap_or(usual)
    }
}
