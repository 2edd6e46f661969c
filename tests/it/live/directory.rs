//! Several files in a directory.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use faas_gateway::config::Sources;

use super::{becomes, kubernetes::Volume, live, marked, says, successful, write};
use crate::support::Gateway;

/// A file that wins over others by its name.
fn only_marker(marker: &str) -> String {
    format!("[provider]\ndefault_namespace = \"{marker}\"\n")
}

async fn start(directory: &Path) -> Gateway {
    Gateway::new().config_from(directory.to_path_buf()).start().await
}

#[tokio::test]
async fn point_06_files_are_merged_in_the_order_of_their_names() {
    let root = tempfile::tempdir().expect("directory");
    let at = |name: &str| -> PathBuf { root.path().join(name) };
    write(at("10-base.toml"), &marked("base"));
    write(at("50-site.toml"), &only_marker("site"));
    write(at(".99-hidden.toml"), "not even TOML");
    write(at("99-notes.txt"), "not TOML either");
    let gateway = start(root.path()).await;
    assert_eq!(live(&gateway).await, "site");

    write(at("60-later.toml"), &only_marker("later"));
    becomes(&gateway, "later").await;
    write(at("50-site.toml"), "[logging]\naccess = false\n");
    write(at("60-later.toml"), &only_marker("edited"));
    becomes(&gateway, "edited").await;
    fs::remove_file(at("60-later.toml")).expect("removed");
    becomes(&gateway, "base").await;

    // Each mistake names the file it is in.
    write(at("70-wrong.toml"), "\n[provider]\nknd = \"memory\"\n");
    gateway
        .logged(
            "the mistake",
            says("70-wrong.toml:3:1: provider.knd: unknown key; did you mean 'kind'?"),
        )
        .await;
    assert_eq!(live(&gateway).await, "base");
    fs::rename(at("70-wrong.toml"), at("70-wrong.toml.off")).expect("renamed");
    successful(&gateway, true).await;
}

#[tokio::test]
async fn point_06_an_emptied_directory_is_refused() {
    let root = tempfile::tempdir().expect("directory");
    write(root.path().join("a.toml"), &marked("one"));
    let gateway = start(root.path()).await;
    fs::remove_file(root.path().join("a.toml")).expect("removed");
    gateway.logged("the refusal", says("has no *.toml file")).await;
    successful(&gateway, false).await;
    assert_eq!(live(&gateway).await, "one");
    write(root.path().join("a.toml"), &marked("two"));
    becomes(&gateway, "two").await;
}

#[tokio::test]
async fn point_06_a_mounted_directory_of_files_goes_live_as_one() {
    let root = tempfile::tempdir().expect("directory");
    let volume = Volume::new(root.path());
    let files = |marker: &str| [("10-base.toml", marked("base")), ("20-site.toml", only_marker(marker))];
    volume.publish(&files("one"));
    let gateway = start(root.path()).await;
    assert_eq!(live(&gateway).await, "one");
    for marker in ["two", "three"] {
        volume.publish(&files(marker));
        becomes(&gateway, marker).await;
    }
}

/// Most time for that many looks; what the writer does takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads while another thread replaces all files at once, again and again.
#[test]
fn point_06_files_that_are_replaced_together_are_never_mixed() {
    let root = tempfile::tempdir().expect("directory");
    let volume = Volume::new(root.path());
    let publish = |number: u32| {
        volume.publish(&["a.toml", "b.toml", "c.toml"].map(|name| (name, format!("# {number}"))));
    };
    publish(0);
    let sources = Sources {
        file: Some(root.path().to_path_buf()),
        ..Sources::default()
    };
    let enough = AtomicBool::new(false);
    let (mut looks, mut seen) = (0, std::collections::BTreeSet::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1.. {
                if enough.load(Ordering::Relaxed) {
                    return;
                }
                publish(number);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        // Lets the writer go, whatever is found.
        let _done = OnDrop(|| enough.store(true, Ordering::Relaxed));
        let end = Instant::now() + PATIENCE;
        while looks < 300 || seen.len() < 100 {
            assert!(
                Instant::now() < end,
                "{looks} looks saw {} versions in {PATIENCE:?}",
                seen.len()
            );
            // Whoever looks all the time lets nobody write.
            std::thread::sleep(Duration::from_millis(1));
            // A version may be gone before it was read: that is an error, not a mixture.
            let Ok(files) = sources.read() else { continue };
            looks += 1;
            assert_eq!(files.len(), 3);
            assert!(
                files.iter().all(|file| file.content == files[0].content),
                "{:?}",
                files.iter().map(|file| &file.content).collect::<Vec<_>>()
            );
            seen.insert(files[0].content.clone());
        }
    });
}

/// Does something at the end of a scope, even when an assertion ends it.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
