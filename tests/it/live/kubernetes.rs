//! ConfigMaps and Secrets, replaced exactly as the kubelet does it.

use std::{
    cell::Cell,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use super::{becomes, live, marked, successful, write};
use crate::support::{Gateway, eventually, gateway::can_mount, tls::Secured};

/// A ConfigMap or Secret volume: links to `..data`, which is a link to a
/// directory named after the time, and is replaced by a rename.
pub(super) struct Volume {
    mount: PathBuf,
    version: AtomicU32,
}

impl Volume {
    pub(super) fn new(mount: &Path) -> Self {
        Self {
            mount: mount.to_path_buf(),
            version: AtomicU32::new(0),
        }
    }

    /// Makes these the volume's files.
    pub(super) fn publish(&self, files: &[(&str, String)]) {
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        let name = format!(
            "..2026_11_23_18_{:02}_{:02}.{version:09}",
            version / 60 % 60,
            version % 60
        );
        let directory = self.mount.join(&name);
        fs::create_dir(&directory).expect("created");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("permitted");
        for (file, content) in files {
            write(directory.join(file), content);
        }
        let (data, temporary) = (self.mount.join("..data"), self.mount.join("..data_tmp"));
        let old = fs::read_link(&data).ok();
        symlink(&name, &temporary).expect("linked");
        fs::rename(&temporary, &data).expect("renamed");
        for (file, _) in files {
            let visible = self.mount.join(file);
            if !visible.is_symlink() {
                symlink(Path::new("..data").join(file), visible).expect("linked");
            }
        }
        if let Some(old) = old {
            fs::remove_dir_all(self.mount.join(old)).expect("removed");
        }
    }
}

#[tokio::test]
async fn point_08_a_config_map_update_goes_live() {
    let root = tempfile::tempdir().expect("directory");
    let volume = Volume::new(root.path());
    let publish = |content: String| volume.publish(&[("gateway.toml", content)]);
    publish(marked("one"));
    let gateway = Gateway::new()
        .config_from(root.path().join("gateway.toml"))
        .start()
        .await;
    for marker in ["two", "three", "four"] {
        publish(marked(marker));
        becomes(&gateway, marker).await;
    }
    publish("wrong = true\n".to_owned());
    successful(&gateway, false).await;
    assert_eq!(live(&gateway).await, "four");
    publish(marked("five"));
    becomes(&gateway, "five").await;
    successful(&gateway, true).await;
}

#[tokio::test]
async fn point_07_a_secret_update_alone_goes_live() {
    let root = tempfile::tempdir().expect("directory");
    let secrets = root.path().join("secrets");
    fs::create_dir(&secrets).expect("created");
    let volume = Volume::new(&secrets);
    let publish = |password: &str| {
        volume.publish(&[
            ("basic-auth-user", "admin".to_owned()),
            ("basic-auth-password", password.to_owned()),
        ]);
    };
    publish("one");
    let toml = format!(
        "{}[auth]\nbasic = true\nsecret_path = \"{}\"\n",
        marked("m"),
        secrets.display()
    );
    let mut gateway = Gateway::new().config(&toml).start().await;
    let allowed = Cell::new("one");
    for password in ["two", "three"] {
        publish(password);
        gateway.sign_in("admin", password);
        eventually("the new password", || async {
            let answer = gateway.get("/system/functions").send().await.expect("an answer");
            (answer.status() == 200).then_some(())
        })
        .await;
        gateway.sign_in("admin", allowed.replace(password));
        let answer = gateway.get("/system/functions").send().await.expect("an answer");
        assert_eq!(answer.status(), 401, "the old password");
    }
}

#[tokio::test]
async fn point_07_a_certificate_update_alone_goes_live() {
    let secured = Secured::new();
    let mounted = secured.directory.path().join("mounted");
    fs::create_dir(&mounted).expect("created");
    let volume = Volume::new(&mounted);
    let publish = || {
        let pair = secured.authority.issue();
        volume.publish(&[("tls.crt", pair.cert.clone()), ("tls.key", pair.key.clone())]);
        pair.der()
    };
    let first = publish();
    let at = |name: &str| mounted.join(name).display().to_string();
    let (cert, key) = (at("tls.crt"), at("tls.key"));
    let toml = format!(
        "{}[server.tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n",
        marked("m")
    );
    let gateway = Gateway::new().config(&toml).start().await;
    let caller = secured.caller();
    assert!(caller.shown(gateway.address()).await == first);
    for _ in 0..3 {
        let next = publish();
        eventually("the new certificate", || async {
            (caller.shown(gateway.address()).await == next).then_some(())
        })
        .await;
    }
}

/// Needs to make a mount, for which the system must let users make namespaces.
/// Which files are mounts is tested without, in `src/config/mount.rs`.
#[test]
fn point_08_a_sub_path_mount_is_warned_about() {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script]);
        command
    };
    if !can_mount("a subPath mount on the program") {
        return;
    }
    let root = tempfile::tempdir().expect("directory");
    let at = |name: &str| root.path().join(name);
    write(at("in-volume.toml"), &marked("one"));
    write(at("gateway.toml"), "");
    let script = "mount --bind \"$DIR/in-volume.toml\" \"$DIR/gateway.toml\" && exec \"$GATEWAY\" --config \
                  \"$DIR/gateway.toml\" --listen 127.0.0.1:0 --set metrics.listen=127.0.0.1:0";
    let mut gateway = unshare(script)
        .env("DIR", root.path())
        .env("HOME", root.path())
        .env("GATEWAY", env!("CARGO_BIN_EXE_faas-gateway"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let log = BufReader::new(gateway.stderr.take().expect("piped"));
    let warned = log
        .lines()
        .map_while(Result::ok)
        .take(20)
        .inspect(|line| eprintln!("{line}"))
        .any(|line| line.contains("gateway.toml is mounted as a single file"));
    gateway.kill().expect("killed");
    gateway.wait().expect("ended");
    assert!(warned, "no warning in the log");
}
