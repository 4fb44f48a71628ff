//! Another server that runs the same scripts: Redis, or what claims to be compatible.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::{env, ffi::OsStr};

use crate::server::Server;

/// What `REFERENCE` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `host:port`: it runs already, and its configuration is not ours to choose.
    Running(SocketAddr),
    /// The name or path of a server to start.
    Binary(PathBuf),
}

/// What a reference server is started with, beyond what every server is.
const DIRECTIVES: &[&str] = &["enable-debug-command yes"];

impl Reference {
    /// Reads `REFERENCE`; `None` if it is not set, or empty.
    pub fn from_env() -> Option<Reference> {
        let value = env::var_os("REFERENCE").filter(|value| !value.is_empty())?;
        Some(Reference::parse(&value).unwrap_or_else(|| panic!("REFERENCE: cannot find {value:?}")))
    }

    fn parse(value: &OsStr) -> Option<Reference> {
        match value.to_str() {
            Some(text) if text.contains(':') => text.to_socket_addrs().ok()?.next().map(Reference::Running),
            _ => find_in_path(value).map(Reference::Binary),
        }
    }

    /// Debian's redis-server, if it is installed.
    pub fn installed() -> Option<Reference> {
        find_in_path(OsStr::new("redis-server")).map(Reference::Binary)
    }

    /// Starts one with these further lines of configuration; `None` if it runs already.
    pub fn start(&self, directives: &[&str]) -> Result<Option<Server>, String> {
        match self {
            Reference::Running(_) => Ok(None),
            Reference::Binary(path) => {
                let all: Vec<&str> = DIRECTIVES.iter().chain(directives).copied().collect();
                Server::start_binary(path, &all).map(Some)
            }
        }
    }
}

fn find_in_path(name: &OsStr) -> Option<PathBuf> {
    // A name with a slash is a path; joining an absolute one replaces the folder.
    let folders = env::var_os("PATH").unwrap_or_default();
    let here = env::current_dir().ok();
    here.into_iter()
        .filter(|_| PathBuf::from(name).components().count() > 1)
        .chain(env::split_paths(&folders))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::Reference;
    use std::ffi::OsStr;

    #[test]
    fn addresses_and_binaries_are_told_apart() {
        let address = Reference::parse(OsStr::new("127.0.0.1:6379"));
        assert_eq!(address, Some(Reference::Running("127.0.0.1:6379".parse().unwrap())));
        assert_eq!(Reference::parse(OsStr::new("/bin/sh")), Some(Reference::Binary("/bin/sh".into())));
        assert!(matches!(Reference::parse(OsStr::new("sh")), Some(Reference::Binary(_))));
        assert_eq!(Reference::parse(OsStr::new("no-such-server")), None);
    }
}
