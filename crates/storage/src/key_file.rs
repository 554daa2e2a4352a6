//! The key file that a SQLite database brings along when the settings name no key.
//!
//! It lies beside the database, readable by its owner alone, so it protects backups and copies of the database, not the
//! machine on which both lie. Each line is an id and a key; the first key seals, as in any [`KeyRing`].

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::{io, process};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectors_domain::Secret;

use crate::keys::KEY_LENGTH;
use crate::{KeyError, KeyRing};

/// More than any key file has.
const MAX_LENGTH: u64 = 64 * 1024;

const HEADING: &str = "\
# The key to the secrets in the database beside this file. Without it they are lost: keep a copy, but not beside a copy
# of the database. Each line is an id and a key; the first one seals, every one opens.
";

impl KeyRing {
    /// The keys in the file `path`; `None` if there is no such file.
    ///
    /// A file that others than its owner may read is refused.
    pub fn load(path: &Path) -> Result<Option<Self>, KeyError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(path, "cannot be read", &error)),
        };
        let metadata = file.metadata().map_err(|error| failed(path, "cannot be read", &error))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(wrong(path, "may be read by others than its owner; run `chmod 600` on it"));
        }
        let mut text = String::new();
        file.take(MAX_LENGTH).read_to_string(&mut text).map_err(|error| failed(path, "cannot be read", &error))?;
        let text = Secret::new(text);
        let lines = text.expose().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys = lines.map(|line| {
            let (id, key) = line.split_once(char::is_whitespace).unwrap_or_default();
            (id.to_owned(), Secret::new(key.trim()))
        });
        let ring =
            Self::new(keys).map_err(|error| wrong(path, format!("is damaged: {error}; restore it from a backup")))?;
        Ok(Some(ring))
    }

    /// The keys in the file `path`, which is made with a random key if it does not exist.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        if let Some(keys) = Self::load(path)? {
            return Ok(keys);
        }
        match create(path) {
            Ok(()) => tracing::info!(
                "made the key file {}; keep a copy elsewhere, without it the stored credentials are lost",
                path.display()
            ),
            // Somebody else was quicker.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(path, "cannot be written", &error)),
        }
        Self::load(path)?.ok_or_else(|| wrong(path, "vanished"))
    }
}

/// Writes the file whole or not at all, and never over another.
fn create(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", process::id()));
    let new = Path::new(&name);
    let done = write(new).and_then(|()| match fs::hard_link(new, path) {
        // A file system without hard links.
        Err(error)
            if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) && !path.exists() =>
        {
            fs::rename(new, path)
        }
        done => done,
    });
    match fs::remove_file(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return done.and(Err(error)),
        _ => {}
    }
    done?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn write(path: &Path) -> io::Result<()> {
    let (mut id, mut key) = ([0; 4], [0; KEY_LENGTH]);
    let filled = aws_lc_rs::rand::fill(&mut id).and_then(|()| aws_lc_rs::rand::fill(&mut key));
    filled.map_err(|_| io::Error::other("no random bytes"))?;
    let id = u32::from_be_bytes(id);
    let text = Secret::new(format!("{HEADING}file-{id:08x} {}\n", STANDARD.encode(key)));
    // What a crash left behind under this name is worth nothing: no key is used before its file has its name.
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.expose().as_bytes())?;
    file.sync_all()
}

fn failed(path: &Path, what: &str, error: &io::Error) -> KeyError {
    wrong(path, format!("{what}: {error}"))
}

fn wrong(path: &Path, what: impl Into<String>) -> KeyError {
    KeyError::File { path: path.to_owned(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_file_has_a_key_that_only_its_owner_may_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.key");
        assert!(KeyRing::load(&path).unwrap().is_none());
        let made = KeyRing::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let read = KeyRing::load_or_create(&path).unwrap();
        assert_eq!(made.ids().collect::<Vec<_>>(), read.ids().collect::<Vec<_>>());
        let other = KeyRing::load_or_create(&directory.path().join("y.key")).unwrap();
        assert_ne!(made.ids().collect::<Vec<_>>(), other.ids().collect::<Vec<_>>());
    }

    #[test]
    fn makers_at_the_same_time_agree_on_a_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = &directory.path().join("x.key");
        create(path).unwrap();
        let before = fs::read(path).unwrap();
        assert_eq!(create(path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(path).unwrap(), before);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_and_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.key");
        let refused = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            KeyRing::load_or_create(&path).unwrap_err().to_string()
        };
        assert!(refused("", 0o600).contains("damaged"));
        assert!(refused("id hunter2\n", 0o600).contains("encryption key 1, \"id\", is not 32 bytes"));
        assert!(!refused("hunter2\n", 0o600).contains("hunter2"));
        assert!(refused("", 0o640).contains("chmod 600"));
        let is_directory = KeyRing::load_or_create(directory.path()).unwrap_err().to_string();
        assert!(is_directory.contains(directory.path().to_str().unwrap()), "{is_directory}");
        let nowhere = directory.path().join("none/x.key");
        assert!(KeyRing::load_or_create(&nowhere).unwrap_err().to_string().contains("cannot be written"));
    }
}
