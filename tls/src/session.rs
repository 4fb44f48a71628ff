//! One connection's state: ciphertext in, plaintext out, and back.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};

use crate::{Problem, files};

/// Bytes of plaintext that one record carries at most.
pub const RECORD_LEN_MAX: usize = 16 * 1024;
/// Bytes that a record is longer than what it carries, at most: its header, nonce, type and tag.
const RECORD_EXTRA_MAX: usize = 32;
/// Room for what the protocol itself may have to say before plaintext is sent: an answer to a change of keys, an alert.
const CIPHERTEXT_EXTRA_MAX: usize = 1024;
/// Ciphertext that is kept at most because what it begins is not complete: the longest message of a handshake, in records.
const KEPT_LEN_MAX: usize = 160 * 1024;
/// Bytes of a record's header; the last two say how long what follows is.
const HEADER_LEN: usize = 5;

/// Room that `send` needs for so many bytes of plaintext.
pub const fn ciphertext_len_max(plaintext_len: usize) -> usize {
    plaintext_len + (plaintext_len / RECORD_LEN_MAX + 1) * RECORD_EXTRA_MAX + CIPHERTEXT_EXTRA_MAX
}

/// A connection's TLS. Nothing of what comes and goes is kept in it, except for the ciphertext of a record that is not
/// complete.
pub struct Session {
    connection: UnbufferedServerConnection,
    kept: Vec<u8>,
    phase: Phase,
    is_ended: bool,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    /// Plaintext may be sent, and may come.
    Established,
    /// `close` was called.
    Closed,
    /// The peer has broken the protocol; nothing more is said.
    Broken,
}

impl Session {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Session, Problem> {
        let connection = UnbufferedServerConnection::new(config).map_err(problem)?;
        Ok(Session { connection, kept: Vec::new(), phase: Phase::Handshake, is_ended: false })
    }

    /// Whether the handshake is done, so that plaintext may be sent.
    pub fn is_established(&self) -> bool {
        self.phase == Phase::Established
    }

    /// Whether the peer has said that nothing more comes.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Takes ciphertext, which is decrypted where it stands. What it says is handed to `plaintext`, record by record; what
    /// has to be sent in answer is appended to `out`, even if the peer has broken the protocol: then that is an alert.
    pub fn receive(
        &mut self,
        ciphertext: &mut [u8],
        mut plaintext: impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<(), Problem> {
        if self.phase == Phase::Broken {
            return Err(Problem::new("the connection is broken"));
        }
        let result = self.receive_all(ciphertext, &mut plaintext, out);
        if result.is_err() {
            self.phase = Phase::Broken;
            self.kept = Vec::new();
            self.collect_alert(out);
        }
        result
    }

    fn receive_all(
        &mut self,
        mut ciphertext: &mut [u8],
        plaintext: &mut impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<(), Problem> {
        // Only a record that has begun before is completed in a buffer of its own; what follows is decrypted where it
        // stands. Messages of a handshake may consist of several records, which have to stay together.
        if !self.kept.is_empty() && self.phase != Phase::Handshake {
            let missing = missing(&self.kept, ciphertext).min(ciphertext.len());
            let (first, rest) = ciphertext.split_at_mut(missing);
            self.receive_kept(first, plaintext, out)?;
            ciphertext = rest;
        }
        if !self.kept.is_empty() {
            return self.receive_kept(ciphertext, plaintext, out);
        }
        let used = self.process(ciphertext, plaintext, out)?;
        self.kept.extend_from_slice(&ciphertext[used..]);
        self.check_kept()
    }

    fn receive_kept(
        &mut self,
        more: &[u8],
        plaintext: &mut impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<(), Problem> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.extend_from_slice(more);
        let used = self.process(&mut kept, plaintext, out)?;
        if used < kept.len() {
            kept.drain(..used);
            self.kept = kept;
        }
        self.check_kept()
    }

    fn check_kept(&self) -> Result<(), Problem> {
        if self.kept.len() > KEPT_LEN_MAX {
            return Err(Problem::new("a message of the handshake is too long"));
        }
        Ok(())
    }

    /// Works on ciphertext until more is wanted; says how much of it is done with.
    fn process(
        &mut self,
        ciphertext: &mut [u8],
        plaintext: &mut impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<usize, Problem> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut ciphertext[used..]);
            let mut is_over = false;
            match state.map_err(problem)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(problem)?;
                        discard += record.discard;
                        plaintext(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(data) => encode(data, out)?,
                // What was encoded stands in `out`, which the caller sends before anything else.
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.is_ended = true,
                ConnectionState::WriteTraffic(_) => {
                    if self.phase == Phase::Handshake {
                        self.phase = Phase::Established;
                    }
                    is_over = true;
                }
                ConnectionState::BlockedHandshake | ConnectionState::Closed => is_over = true,
                // Early data is not accepted.
                _ => return Err(Problem::new("the peer has sent what was not asked for")),
            }
            used += discard;
            if is_over {
                return Ok(used);
            }
        }
    }

    /// Encrypts plaintext into `room`, which has `ciphertext_len_max` bytes or more; says how many it takes there.
    pub fn send(&mut self, plaintext: &[u8], room: &mut [u8]) -> Result<usize, Problem> {
        if self.phase != Phase::Established {
            return Err(Problem::new("the session is not established"));
        }
        self.write(room, |traffic, room| traffic.encrypt(plaintext, room))
    }

    /// Says to the peer that nothing more comes: appends that to `out`, if there is somebody to whom it can be said.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if self.phase != Phase::Established {
            return;
        }
        self.phase = Phase::Closed;
        let mut room = [0; CIPHERTEXT_EXTRA_MAX];
        if let Ok(len) = self.write(&mut room, |traffic, room| traffic.queue_close_notify(room)) {
            out.extend_from_slice(&room[..len]);
        }
    }

    fn write(
        &mut self,
        room: &mut [u8],
        what: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<usize, Problem> {
        let (mut used, mut len) = (0, 0);
        let result = loop {
            // What is kept begins where the session thinks it does, so it is shown, though nothing of it is complete.
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.kept[used..]);
            used += discard;
            match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => match data.encode(&mut room[len..]) {
                    Ok(encoded) => len += encoded,
                    Err(error) => break Err(Problem::new(error.to_string())),
                },
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.is_ended = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let written = what(&mut traffic, &mut room[len..]);
                    break written
                        .map(|written| len + written)
                        .map_err(|error| Problem::new(error.to_string()));
                }
                Ok(_) => break Err(Problem::new("the session cannot send now")),
                Err(error) => break Err(problem(error)),
            }
        };
        self.kept.drain(..used);
        result
    }

    /// The peer has broken the protocol: what there is to say about that.
    fn collect_alert(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    if encode(data, out).is_err() {
                        return;
                    }
                }
                // Whoever has broken the protocol is not heard any more.
                Ok(ConnectionState::ReadTraffic(mut traffic)) => while traffic.next_record().is_some() {},
                _ => return,
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("phase", &self.phase).field("kept", &self.kept.len()).finish()
    }
}

/// How many bytes the record that begins with `kept` still lacks, as far as its header tells, which may go on in `more`.
fn missing(kept: &[u8], more: &[u8]) -> usize {
    let mut header = kept.iter().chain(more).take(HEADER_LEN);
    match (header.nth(HEADER_LEN - 2), header.next()) {
        (Some(high), Some(low)) => {
            let len = HEADER_LEN + usize::from(u16::from_be_bytes([*high, *low]));
            len.saturating_sub(kept.len())
        }
        _ => more.len(),
    }
}

/// Appends what the handshake has to say.
fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let start = out.len();
    let mut room = 4096;
    loop {
        out.resize(start + room, 0);
        match data.encode(&mut out[start..]) {
            Ok(len) => {
                out.truncate(start + len);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(error)) if error.required_size > room => {
                room = error.required_size
            }
            Err(error) => {
                out.truncate(start);
                return Err(Problem::new(error.to_string()));
            }
        }
    }
}

fn problem(error: rustls::Error) -> Problem {
    Problem::new(if files::is_version1(&error) {
        "invalid peer certificate: it is of X.509 version 1; a client's must be of version 3".into()
    } else if files::is_authority(&error) {
        "invalid peer certificate: it is an authority's (CA:TRUE), not a client's".into()
    } else {
        error.to_string()
    })
}
