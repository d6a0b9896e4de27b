//! The directory in which a server keeps everything, and the files in it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{self, Path, PathBuf};

use anyhow::Context;
use common::auth::Secret;

/// Only the owner may read and write.
const PRIVATE: u32 = 0o600;

/// The data directory, by its absolute path.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Names a directory, which need not be there.
    ///
    /// # Errors
    /// Fails if the path is empty, or relative while the working directory cannot be told.
    pub fn at(path: &Path) -> anyhow::Result<Self> {
        let absolute =
            path::absolute(path).with_context(|| format!("'{}' is no directory", path.display()))?;
        // Without this the default would be printed as /x/./drogue-data.
        Ok(Self(absolute.components().collect()))
    }

    /// Makes the directory, for its owner only, unless it is there.
    ///
    /// # Errors
    /// Names the directory.
    pub fn create(&self) -> anyhow::Result<()> {
        if self.0.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&self.0)
            .and_then(|()| fs::set_permissions(&self.0, Permissions::from_mode(0o700)))
            .with_context(|| format!("cannot make the data directory {}", self.0.display()))
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of a file in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads a token from a file of the directory; `None` if there is no such file.
    ///
    /// # Errors
    /// Names the file.
    pub fn read_token(&self, name: &str) -> anyhow::Result<Option<Secret>> {
        let path = self.file(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Secret::new(text.trim()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes a token to a file of the directory that only its owner may read.
    ///
    /// # Errors
    /// Names the file.
    pub fn write_token(&self, name: &str, token: &Secret) -> anyhow::Result<()> {
        self.write_private(name, &format!("{}\n", token.expose()))
    }

    /// Writes a file that only its owner may read. It is there whole, or as it was before.
    ///
    /// # Errors
    /// Names the file.
    pub fn write_private(&self, name: &str, text: &str) -> anyhow::Result<()> {
        self.replace(name, text, PRIVATE)
    }

    /// Writes a file that everybody may read. It is there whole, or as it was before.
    ///
    /// # Errors
    /// Names the file.
    pub fn write_public(&self, name: &str, text: &str) -> anyhow::Result<()> {
        self.replace(name, text, 0o644)
    }

    fn replace(&self, name: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        let (path, draft) = (self.file(name), self.file(&format!("{name}.new")));
        let write = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
            // An old draft keeps its mode.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_for_their_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::at(&directory.path().join("a/b")).unwrap();
        data.create().unwrap();
        assert!(data.read_token("token").unwrap().is_none());
        fs::write(data.file("token.new"), "left behind").unwrap();
        data.write_token("token", &Secret::new("secret")).unwrap();
        assert_eq!(data.read_token("token").unwrap().unwrap().expose(), "secret");
        let mode = fs::metadata(data.file("token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE);
    }

    #[test]
    fn the_path_is_absolute_and_plain() {
        let data = DataDir::at(Path::new("./drogue-data")).unwrap();
        assert!(data.path().is_absolute());
        assert!(!data.path().to_string_lossy().contains("/./"), "{data:?}");
        assert!(DataDir::at(Path::new("")).is_err());
    }
}
