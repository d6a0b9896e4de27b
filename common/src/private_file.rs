//! Files that hold what others on the machine must not read.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Makes an empty file of mode 0600 if it is not there. A file that is there stays as it is.
///
/// SQLite would make a database that others can read; the companions of a database get its mode.
pub(crate) fn create(file: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(file) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        create(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, "kept").unwrap();
        create(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }
}
