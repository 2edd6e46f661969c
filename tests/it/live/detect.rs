//! Noticing changes of one file, however they are made.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{QUICK, becomes, is_reload, live, marked, says, start, successful, write};
use crate::support::{Gateway, soon};

#[tokio::test]
async fn point_08_a_write_in_place_goes_live() {
    let gateway = start().await;
    // Of the same length, so that the file is never cut.
    let mut file = OpenOptions::new()
        .write(true)
        .open(gateway.config_file())
        .expect("open");
    let content = format!("# a test's configuration\n{}\n", marked("two"));
    file.write_all(content.as_bytes()).expect("written");
    drop(file);
    becomes(&gateway, "two").await;
}

#[tokio::test]
async fn point_08_a_truncated_and_rewritten_file_goes_live() {
    let gateway = start().await;
    let content = marked("two");
    let (half, rest) = content.split_at(content.len() / 2);
    let mut file = fs::File::create(gateway.config_file()).expect("truncated");
    file.write_all(half.as_bytes()).expect("written");
    file.sync_all().expect("on disk");
    tokio::time::sleep(Duration::from_millis(20)).await;
    file.write_all(rest.as_bytes()).expect("written");
    drop(file);
    becomes(&gateway, "two").await;
    successful(&gateway, true).await;
}

#[tokio::test]
async fn point_08_a_file_renamed_into_place_goes_live() {
    let gateway = start().await;
    for marker in ["two", "three"] {
        let draft = gateway.directory().join("draft");
        write(&draft, &marked(marker));
        fs::rename(&draft, gateway.config_file()).expect("renamed");
        becomes(&gateway, marker).await;
    }
}

#[tokio::test]
async fn point_08_an_editors_save_with_a_backup_goes_live() {
    let gateway = start().await;
    for marker in ["two", "three"] {
        // As vim does it: the old file becomes the backup, the new one is written under its name.
        let (file, swap) = (gateway.config_file(), gateway.directory().join(".gateway.toml.swp"));
        let backup = gateway.directory().join("gateway.toml~");
        write(&swap, "unsaved");
        fs::rename(&file, &backup).expect("renamed");
        write(&file, &marked(marker));
        fs::remove_file(&backup).expect("removed");
        fs::remove_file(&swap).expect("removed");
        becomes(&gateway, marker).await;
    }
}

#[tokio::test]
async fn point_08_a_link_that_is_pointed_elsewhere_goes_live() {
    let root = tempfile::tempdir().expect("directory");
    let (etc, versions) = (root.path().join("etc"), root.path().join("versions"));
    for directory in [&etc, &versions] {
        fs::create_dir(directory).expect("created");
    }
    for marker in ["one", "two"] {
        write(versions.join(marker), &marked(marker));
    }
    let file = etc.join("gateway.toml");
    std::os::unix::fs::symlink(versions.join("one"), &file).expect("linked");
    let gateway = Gateway::new().config_from(file.clone()).start().await;
    std::os::unix::fs::symlink(versions.join("two"), etc.join("next")).expect("linked");
    fs::rename(etc.join("next"), &file).expect("renamed");
    becomes(&gateway, "two").await;
    // The link stays as it is; its target is edited.
    write(versions.join("two"), &marked("three"));
    becomes(&gateway, "three").await;
}

#[tokio::test]
async fn point_05_a_vanished_file_keeps_what_runs_until_it_is_back() {
    let gateway = start().await;
    fs::remove_file(gateway.config_file()).expect("removed");
    gateway.logged("the missing file", says("cannot be read")).await;
    successful(&gateway, false).await;
    assert_eq!(live(&gateway).await, "one");
    write(gateway.config_file(), &marked("two"));
    becomes(&gateway, "two").await;
    successful(&gateway, true).await;

    // At once, as some tools do it: nothing is lost either.
    fs::remove_file(gateway.config_file()).expect("removed");
    write(gateway.config_file(), &marked("three"));
    becomes(&gateway, "three").await;
}

#[tokio::test]
async fn point_04_an_empty_file_is_refused() {
    let gateway = start().await;
    write(gateway.config_file(), "\n");
    gateway.logged("the refusal", says("gateway.toml: is empty")).await;
    successful(&gateway, false).await;
    assert_eq!(live(&gateway).await, "one");
}

#[tokio::test]
async fn point_01_a_replaced_directory_is_watched_again() {
    let root = tempfile::tempdir().expect("directory");
    let (etc, next) = (root.path().join("etc"), root.path().join("next"));
    fs::create_dir(&etc).expect("created");
    write(etc.join("gateway.toml"), &marked("one"));
    let gateway = Gateway::new().config_from(etc.join("gateway.toml")).start().await;
    fs::create_dir(&next).expect("created");
    write(next.join("gateway.toml"), &marked("two"));
    fs::rename(&etc, root.path().join("old")).expect("renamed");
    fs::rename(&next, &etc).expect("renamed");
    becomes(&gateway, "two").await;
    write(etc.join("gateway.toml"), &marked("three"));
    becomes(&gateway, "three").await;
}

#[tokio::test]
async fn point_01_polling_needs_no_events_and_the_mode_changes_live() {
    let with = |marker: &str, reload: &str| marked(marker).replace(QUICK, reload);
    let poll = "[reload]\nwatch = \"poll\"\npoll_interval = \"50ms\"\n";
    let gateway = Gateway::new().config(&with("one", poll)).start().await;
    write(gateway.config_file(), &with("two", poll));
    becomes(&gateway, "two").await;
    let polled = |line: &serde_json::Value| is_reload(line) && says("\"trigger\":\"poll\"")(line);
    gateway.logged("the reload", polled).await;
    assert_eq!(gateway.log_count(polled), 1);

    // From here on by events.
    write(gateway.config_file(), &marked("three"));
    becomes(&gateway, "three").await;
    write(gateway.config_file(), &marked("four"));
    becomes(&gateway, "four").await;

    // And from here on only when asked.
    let off = "[reload]\nwatch = \"off\"\n";
    write(gateway.config_file(), &with("five", off));
    becomes(&gateway, "five").await;
    write(gateway.config_file(), &marked("six"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(live(&gateway).await, "five", "nobody asked");
    gateway.signal(Signal::SIGHUP);
    becomes(&gateway, "six").await;
    write(gateway.config_file(), &marked("seven"));
    becomes(&gateway, "seven").await;
}

#[tokio::test]
async fn point_02_the_same_content_with_another_time_is_no_reload() {
    let gateway = start().await;
    let content = fs::read_to_string(gateway.config_file()).expect("readable");
    for _ in 0..3 {
        write(gateway.config_file(), &content);
        gateway.signal(Signal::SIGHUP);
    }
    gateway.logged("the look", says("configuration unchanged")).await;
    assert_eq!(gateway.log_count(is_reload), 0);
    // The next reload is number two.
    write(gateway.config_file(), &marked("two"));
    let line = gateway.logged("the reload", is_reload).await;
    assert!(says("\"to\":2")(&line), "{line}");
}

#[tokio::test]
async fn point_03_a_chatty_writer_does_not_starve_the_reload() {
    let gateway = start().await;
    let noise = async {
        let file = gateway.directory().join("noise");
        loop {
            write(&file, "noise");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let edit = async {
        write(gateway.config_file(), &marked("two"));
        soon("two", becomes(&gateway, "two")).await;
    };
    tokio::select! {
        () = noise => {}
        () = edit => {}
    }
}
