//! Files that are mounts of their own.
//!
//! Kubernetes never updates a file that is mounted by `subPath`, and a file
//! that is bind-mounted stays the old one when it is replaced outside by a
//! rename. Neither shows in any event, so it can only be said at the start.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Where Linux lists the mounts this process sees.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Those of `files` that are mount points themselves.
///
/// # Errors
/// The list of mounts cannot be read; other systems have none.
pub fn mounted_files(files: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    Ok(mounted_among(files, &std::fs::read(MOUNTS)?))
}

/// Those that are in the list of mounts, under whatever name of theirs.
fn mounted_among(files: &[PathBuf], mounts: &[u8]) -> Vec<PathBuf> {
    let is_one = |file: &&PathBuf| file.canonicalize().is_ok_and(|real| is_mount_point(mounts, &real));
    files.iter().filter(is_one).cloned().collect()
}

/// The warning for such a file.
pub fn warning(file: &Path) -> String {
    format!(
        "{} is mounted as a single file (a subPath mount in Kubernetes): when it is replaced outside, this process \
         keeps seeing the old one; mount its directory to have changes go live",
        file.display()
    )
}

/// The fifth field of a line is the mount point, with blanks and the like
/// written as three octal digits.
fn is_mount_point(mounts: &[u8], path: &Path) -> bool {
    mounts.split(|byte| *byte == b'\n').any(|line| {
        line.split(|byte| *byte == b' ')
            .nth(4)
            .is_some_and(|point| unescaped(point) == path.as_os_str().as_encoded_bytes())
    })
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match code {
            Some(code) if first == b'\\' => {
                text.push(code);
                rest = &tail[3..];
            }
            _ => {
                text.push(first);
                rest = tail;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &[u8] = b"1 0 0:1 / / rw - overlay overlay rw\n\
        2 1 8:1 /pods/x/volume-subpaths/c/gateway.toml /etc/faas/gateway.toml ro,relatime - ext4 /dev/sda1 rw\n\
        3 1 0:9 / /etc/mounted ro - tmpfs tmpfs rw\n\
        4 1 0:9 / /etc/with\\040blank\\134.toml ro - tmpfs tmpfs rw\n";

    #[test]
    fn point_08_a_sub_path_is_a_mount_point_and_a_file_in_a_volume_is_none() {
        for (path, expected) in [
            ("/etc/faas/gateway.toml", true),
            ("/etc/mounted/gateway.toml", false),
            ("/etc/with blank\\.toml", true),
            ("/etc/faas", false),
        ] {
            assert_eq!(is_mount_point(POD, Path::new(path)), expected, "{path}");
        }
    }

    /// As in a pod: one file is a mount, another is a link into a volume.
    #[test]
    fn point_08_of_several_files_those_that_are_mounted_are_named() {
        let directory = tempfile::tempdir().expect("directory");
        let at = |name: &str| directory.path().canonicalize().expect("exists").join(name);
        for name in ["mounted.toml", "volume.toml"] {
            std::fs::write(at(name), "x = 1").expect("written");
        }
        for (target, name) in [("mounted.toml", "link.toml"), ("volume.toml", "other.toml")] {
            std::os::unix::fs::symlink(at(target), at(name)).expect("linked");
        }
        let mounts = format!("1 0 8:1 / {} ro - ext4 /dev/sda1 rw\n", at("mounted.toml").display());
        let files = ["mounted.toml", "volume.toml", "link.toml", "other.toml", "none.toml"].map(at);
        let found = mounted_among(&files, mounts.as_bytes());
        assert_eq!(found, ["mounted.toml", "link.toml"].map(at));
        assert!(warning(&found[0]).contains("mounted.toml is mounted as a single file"));
    }

    #[test]
    fn ordinary_files_are_no_mounts() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let none = mounted_files(&[file.path().to_path_buf(), "/no/such".into()]);
        assert_eq!(none.expect("readable"), Vec::<PathBuf>::new());
    }
}
