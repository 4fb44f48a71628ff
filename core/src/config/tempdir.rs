//! A directory for one test, removed when the test ends.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) struct TempDir(PathBuf);

impl TempDir {
    /// A fresh directory; `name` tells the tests of one process apart.
    pub(crate) fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("mortise-config-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("the directory of temporary files is writable");
        TempDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, and its directories, and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("under the directory")).expect("creating a directory");
        fs::write(&path, text).expect("writing a file");
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
