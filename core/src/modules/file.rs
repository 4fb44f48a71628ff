//! A library's file: what can be seen of it before anything in it is mapped, and a copy that nobody else can change.
//!
//! The copy is what is loaded. A file that is overwritten or cut short while it is mapped ends the process; and the
//! system's loader takes a file that it has mapped before for the same library, whatever stands in it now.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use sha1::{Digest as _, Sha1};

/// What tells libraries apart.
pub(super) type Digest = [u8; 20];

/// The part of a library that is mapped, in memory.
pub(super) struct Copy {
    /// Where it is.
    pub(super) file: File,
    /// Of its content.
    pub(super) digest: Digest,
}

/// More than any library has to be mapped.
const LEN_MAX: u64 = 1 << 30;

/// Reads a file that is to be loaded. A refusal is a sentence, without the full stop.
pub(super) fn copy(path: &str) -> Result<Copy, String> {
    let unreadable = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => format!("There is no file '{path}'"),
        _ => format!("'{path}' cannot be read: {}", crate::config::file::error_text(&error)),
    };
    // A pipe would let the server wait until someone writes into it.
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(format!("'{path}' is no regular file"));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(format!("'{path}' does not have execute permissions"));
    }
    let cut_short = || format!("'{path}' is cut short: not all of the library is there");
    let len = match mapped_len(&mut file).map_err(unreadable)? {
        Mapped::Up(len) if len > metadata.len() => return Err(cut_short()),
        Mapped::Up(len) if len > LEN_MAX => return Err(format!("'{path}' is too large for a library")),
        Mapped::Up(len) => len,
        Mapped::CutShort => return Err(cut_short()),
        Mapped::Other => return Err(format!("'{path}' is no shared library")),
    };
    let uncopied = |error: io::Error| format!("'{path}' cannot be copied: {error}");
    file.rewind().map_err(unreadable)?;
    // The name is shown in /proc only.
    let name = CString::new(path.rsplit('/').next().unwrap_or_default()).unwrap_or_default();
    let memory = memfd_create(&*name, MFdFlags::MFD_CLOEXEC)
        .or_else(|_| memfd_create(c"module", MFdFlags::MFD_CLOEXEC))
        .map_err(|error| uncopied(error.into()))?;
    let mut writer = Hashing { file: File::from(memory), hash: Sha1::new() };
    if io::copy(&mut file.take(len), &mut writer).map_err(uncopied)? < len {
        return Err(cut_short());
    }
    Ok(Copy { file: writer.file, digest: writer.hash.finalize().into() })
}

/// Writes, and hashes what it writes.
struct Hashing {
    file: File,
    hash: Sha1,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.file.write(bytes)?;
        self.hash.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// How much of a file the loader looks at.
enum Mapped {
    /// What stands before this place; sections for debuggers follow it.
    Up(u64),
    /// There is less than the file itself says.
    CutShort,
    /// It is no library of this kind of machine.
    Other,
}

/// How a library of this kind of machine begins: ELF, 64 bits, its order of bytes.
const START: &[u8] = if cfg!(target_endian = "little") { b"\x7fELF\x02\x01" } else { b"\x7fELF\x02\x02" };
const HEADER_LEN: usize = 64;
/// An entry in the table of segments.
const SEGMENT_LEN: usize = 56;
/// The type of a segment that is mapped.
const PT_LOAD: u32 = 1;

fn mapped_len(file: &mut File) -> io::Result<Mapped> {
    let mut header = [0; HEADER_LEN];
    let read = read_up_to(file, &mut header)?;
    if !header.starts_with(START) {
        return Ok(Mapped::Other);
    }
    if read < HEADER_LEN {
        return Ok(Mapped::CutShort);
    }
    let (table, entry_len, count) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
    if usize::from(entry_len) != SEGMENT_LEN || count == 0 {
        return Ok(Mapped::Other);
    }
    let mut segments = vec![0; SEGMENT_LEN * usize::from(count)];
    file.seek(SeekFrom::Start(table))?;
    if read_up_to(file, &mut segments)? < segments.len() {
        return Ok(Mapped::CutShort);
    }
    let mut len = table.saturating_add(segments.len() as u64);
    let mut is_mapped = false;
    for segment in segments.chunks_exact(SEGMENT_LEN) {
        is_mapped |= u32_at(segment, 0) == PT_LOAD;
        // The others lie within those that are mapped, and if one does not, that is seen here as well.
        len = len.max(u64_at(segment, 8).saturating_add(u64_at(segment, 32)));
    }
    Ok(if is_mapped { Mapped::Up(len) } else { Mapped::Other })
}

/// Fills the buffer as far as the file goes.
fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn at<const N: usize>(bytes: &[u8], place: usize) -> [u8; N] {
    bytes[place..place + N].try_into().expect("a slice of N bytes is an array of N")
}

fn u16_at(bytes: &[u8], place: usize) -> u16 {
    u16::from_ne_bytes(at(bytes, place))
}

fn u32_at(bytes: &[u8], place: usize) -> u32 {
    u32::from_ne_bytes(at(bytes, place))
}

fn u64_at(bytes: &[u8], place: usize) -> u64 {
    u64::from_ne_bytes(at(bytes, place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tempdir::TempDir;
    use std::fs;
    use std::path::Path;

    fn write(dir: &TempDir, bytes: &[u8], mode: u32) -> String {
        let path = dir.write("library", "");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn refusal(path: &str) -> String {
        copy(path).map(|_| String::new()).unwrap_or_else(|reason| reason.replace(path, "@"))
    }

    /// The smallest file that says what it maps: a header, and one segment of some length.
    fn library(segment_len: u64) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN + SEGMENT_LEN];
        bytes[..START.len()].copy_from_slice(START);
        bytes[32..40].copy_from_slice(&(HEADER_LEN as u64).to_ne_bytes());
        bytes[54..56].copy_from_slice(&(SEGMENT_LEN as u16).to_ne_bytes());
        bytes[56..58].copy_from_slice(&1_u16.to_ne_bytes());
        bytes[HEADER_LEN..HEADER_LEN + 4].copy_from_slice(&PT_LOAD.to_ne_bytes());
        bytes[HEADER_LEN + 32..HEADER_LEN + 40].copy_from_slice(&segment_len.to_ne_bytes());
        bytes
    }

    #[test]
    fn what_is_no_library_is_refused() {
        let dir = TempDir::new("no-library");
        assert_eq!(refusal("/nowhere/x.so"), "There is no file '@'");
        assert_eq!(refusal("/dev/null"), "'@' is no regular file");
        assert_eq!(refusal("src"), "'@' is no regular file");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(refusal(pipe.to_str().unwrap()), "'@' is no regular file");
        for bytes in [&b""[..], b"\x7fEL", b"text", b"\x7fELF\x01\x01 of 32 bits"] {
            assert_eq!(refusal(&write(&dir, bytes, 0o755)), "'@' is no shared library");
        }
        let mut without_segments = library(1);
        without_segments[56] = 0;
        assert_eq!(refusal(&write(&dir, &without_segments, 0o755)), "'@' is no shared library");
        assert_eq!(refusal(&write(&dir, &library(1), 0o644)), "'@' does not have execute permissions");
    }

    #[test]
    fn what_lacks_its_end_is_refused() {
        let dir = TempDir::new("cut-short");
        let whole = library((HEADER_LEN + SEGMENT_LEN) as u64);
        assert_eq!(refusal(&write(&dir, &whole, 0o755)), "");
        for len in START.len()..whole.len() {
            let path = write(&dir, &whole[..len], 0o755);
            assert_eq!(refusal(&path), "'@' is cut short: not all of the library is there", "{len}");
        }
        for len in [whole.len() as u64 + 1, u64::MAX] {
            let path = write(&dir, &library(len), 0o755);
            assert_eq!(refusal(&path), "'@' is cut short: not all of the library is there", "{len}");
        }
    }

    #[test]
    fn a_copy_is_known_by_what_is_mapped_of_it() {
        let dir = TempDir::new("copy");
        let digest = |bytes: &[u8]| copy(&write(&dir, bytes, 0o700)).unwrap().digest;
        let whole = library((HEADER_LEN + SEGMENT_LEN) as u64);
        let with_symbols = [&whole[..], b"symbols"].concat();
        assert_eq!(digest(&whole), digest(&with_symbols));
        assert_ne!(digest(&whole), digest(&library(0)));
        assert!(Path::new("/proc/self/fd").exists(), "copies are opened by their place there");
    }
}
