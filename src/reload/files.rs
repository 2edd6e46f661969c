//! The trigger that looks at files: when they change, or regularly.
//!
//! Follows `[reload]` of the live configuration. Whether anything really
//! changed is found out by the reload it asks for.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use tracing::warn;

use super::{Reloader, Trigger};
use crate::{
    config::{
        blocking, mount,
        watch::{Cause, Timing, Watch, directories},
    },
    shutdown::Tasks,
};

impl Reloader {
    /// Reloads when files change, as `[reload]` of the live configuration
    /// says, until `tasks` drain.
    pub fn on_file_change(&self, tasks: &Tasks) {
        let (reloader, draining) = (self.clone(), tasks.draining().clone());
        tasks.spawn(async move {
            tokio::select! {
                () = reloader.watch_files() => {}
                () = draining.cancelled() => {}
            }
        });
    }

    async fn watch_files(mut self) {
        let mut watch = Watch::new();
        let mut mounts = Mounts::default();
        loop {
            // A change of `[reload]` itself is to be followed at once.
            self.journal.mark_unchanged();
            let (config, file) = (self.live.config(), self.sources.file.clone());
            let timing = Timing::new(&config.reload);
            mounts.look(&self).await;
            let directories = blocking(move || directories(file.as_deref(), &config)).await;
            let notice = async {
                match timing {
                    Some(timing) => watch.next(&directories, timing).await,
                    None => std::future::pending().await,
                }
            };
            let cause = tokio::select! {
                cause = notice => cause,
                // Without a sender the gateway is stopping; nothing is to be watched.
                Ok(()) = self.journal.changed() => continue,
            };
            self.request(match cause {
                Cause::Event => Trigger::Watch,
                Cause::Poll => Trigger::Poll,
            })
            .await;
        }
    }
}

/// Files that are mounts of their own, each told about once.
#[derive(Default)]
struct Mounts {
    /// The generation whose files were looked at; mounts do not change later.
    seen: Option<u64>,
    told: BTreeSet<PathBuf>,
}

impl Mounts {
    async fn look(&mut self, reloader: &Reloader) {
        let generation = reloader.live.generation();
        if self.seen.replace(generation) == Some(generation) {
            return;
        }
        let sources = Arc::clone(&reloader.sources);
        let referenced = reloader.live.config().referenced_files();
        let found = blocking(move || {
            // A file that cannot be read is the reload's to complain about.
            let read = sources.read().unwrap_or_default();
            let files: Vec<_> = read.into_iter().map(|file| file.path).chain(referenced).collect();
            // Systems without a list of mounts have no such mounts either.
            mount::mounted_files(&files).unwrap_or_default()
        })
        .await;
        for file in found {
            if !self.told.contains(&file) {
                warn!("{}", mount::warning(&file));
                self.told.insert(file);
            }
        }
    }
}
