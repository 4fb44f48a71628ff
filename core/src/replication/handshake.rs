//! What a replica and its primary say to each other before the stream flows: lines in, requests out.

use mortise_sdk::resp::encode;

use super::backlog::{StreamName, parse_offset};

/// What a replica says of itself, and asks for.
#[derive(Clone, Debug, Default)]
pub struct Introduction {
    /// User and password.
    pub login: Option<(Option<String>, String)>,
    /// The port on which it can be reached.
    pub port: u16,
    /// The address at which it can be reached, if the primary would see another.
    pub ip: Option<String>,
    /// The stream that it has up to an offset.
    pub known: Option<(StreamName, u64)>,
    /// The other one is to become the primary, which it does not know yet.
    pub fails_over: bool,
}

/// What follows a line of the primary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// This is to be sent, and another line will come.
    Send(Vec<u8>),
    /// Another line will come.
    Listen,
    /// All data will come, and then the stream of this name from this offset on.
    Full(StreamName, u64),
    /// The stream goes on, maybe under another name.
    GoOn(Option<StreamName>),
    /// It is to be tried again later.
    Later(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Ping,
    Auth,
    Port,
    Ip,
    Capa,
    Psync,
}

/// A conversation that leads to the stream.
#[derive(Debug)]
pub struct Handshake {
    introduction: Introduction,
    step: Step,
}

impl Handshake {
    /// A conversation, and what it begins with.
    pub fn begin(introduction: Introduction) -> (Handshake, Vec<u8>) {
        (Handshake { introduction, step: Step::Ping }, request(&[b"PING"]))
    }

    /// Whether the stream has been asked for.
    pub fn has_asked(&self) -> bool {
        self.step == Step::Psync
    }

    /// A line has come, without its end.
    pub fn hear(&mut self, line: &[u8]) -> Next {
        let words = String::from_utf8_lossy(line);
        let is_error = line.first() == Some(&b'-');
        match self.step {
            _ if line.is_empty() => return Next::Listen,
            Step::Ping => {
                let may_log_in = line.starts_with(b"-NOAUTH")
                    || line.starts_with(b"-NOPERM")
                    || line.starts_with(b"-ERR operation not permitted");
                if line.first() != Some(&b'+') && !may_log_in {
                    return Next::Later(format!("Error reply to PING from master: '{words}'"));
                }
                tracing::info!("Master replied to PING, replication can continue...");
            }
            Step::Auth if is_error => {
                return Next::Later(format!("Unable to AUTH to MASTER: {words}"));
            }
            Step::Port if is_error => {
                tracing::info!("(Non critical) Master does not understand REPLCONF listening-port: {words}");
            }
            Step::Ip if is_error => {
                tracing::info!("(Non critical) Master does not understand REPLCONF ip-address: {words}");
            }
            Step::Capa if is_error => {
                tracing::info!("(Non critical) Master does not understand REPLCONF capa: {words}");
            }
            Step::Auth | Step::Port | Step::Ip | Step::Capa => {}
            Step::Psync => return self.hear_of_data(line),
        }
        Next::Send(self.advance())
    }

    /// The next request.
    fn advance(&mut self) -> Vec<u8> {
        let own = &self.introduction;
        let (step, request) = match self.step {
            Step::Ping | Step::Auth => match (&own.login, self.step) {
                (Some((user, password)), Step::Ping) => {
                    let mut words: Vec<&[u8]> = vec![b"AUTH"];
                    words.extend(user.as_deref().map(str::as_bytes));
                    words.push(password.as_bytes());
                    (Step::Auth, request(&words))
                }
                _ => {
                    let port = own.port.to_string();
                    (Step::Port, request(&[b"REPLCONF", b"listening-port", port.as_bytes()]))
                }
            },
            Step::Port | Step::Ip => match (&own.ip, self.step) {
                (Some(ip), Step::Port) => (Step::Ip, request(&[b"REPLCONF", b"ip-address", ip.as_bytes()])),
                _ => (Step::Capa, request(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"])),
            },
            Step::Capa | Step::Psync => {
                let (name, from) = match own.known {
                    Some((name, offset)) => {
                        tracing::info!("Trying a partial resynchronization (request {name}:{}).", offset + 1);
                        (name.to_string(), (offset + 1).to_string())
                    }
                    None => {
                        tracing::info!("Partial resynchronization not possible (no cached master)");
                        ("?".to_owned(), "-1".to_owned())
                    }
                };
                let mut words: Vec<&[u8]> = vec![b"PSYNC", name.as_bytes(), from.as_bytes()];
                words.extend(own.fails_over.then_some(&b"FAILOVER"[..]));
                (Step::Psync, request(&words))
            }
        };
        self.step = step;
        request
    }

    fn hear_of_data(&self, line: &[u8]) -> Next {
        const WRONG: &str = "Master replied with wrong +FULLRESYNC syntax.";
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        match &words[..] {
            [b"+FULLRESYNC", name, offset, ..] => match (StreamName::parse(name), parse_offset(offset)) {
                (Some(name), Some(offset)) => {
                    tracing::info!("Full resync from master: {name}:{offset}");
                    Next::Full(name, offset)
                }
                _ => Next::Later(WRONG.to_owned()),
            },
            [b"+FULLRESYNC", ..] => Next::Later(WRONG.to_owned()),
            [b"+CONTINUE", rest @ ..] if self.introduction.known.is_some() => {
                tracing::info!("Successful partial resynchronization with master.");
                Next::GoOn(rest.first().and_then(|name| StreamName::parse(name)))
            }
            _ if line.starts_with(b"-NOMASTERLINK") || line.starts_with(b"-LOADING") => {
                let said = line.escape_ascii();
                Next::Later(format!(
                    "Master is currently unable to PSYNC but should be in the future: {said}"
                ))
            }
            _ if line.first() == Some(&b'-') => {
                let said = line.escape_ascii();
                Next::Later(format!("Master does not support PSYNC or is in error state (reply: {said})"))
            }
            _ => {
                let said = line.escape_ascii();
                Next::Later(format!("Unexpected reply to PSYNC from master: {said}"))
            }
        }
    }
}

fn request(words: &[&[u8]]) -> Vec<u8> {
    encode::request(words.iter().copied())
}

/// How the data of a full synchronisation is framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// It has so many bytes.
    Len(u64),
    /// It ends with this mark.
    Mark(StreamName),
}

impl Framing {
    /// How long the data is, if that is said.
    pub fn total(self) -> Option<u64> {
        match self {
            Framing::Len(len) => Some(len),
            Framing::Mark(_) => None,
        }
    }

    /// What the line says that stands before the data.
    pub fn parse(line: &[u8]) -> Option<Framing> {
        let rest = line.strip_prefix(b"$")?;
        match rest.strip_prefix(b"EOF:") {
            Some(mark) => StreamName::parse(mark).map(Framing::Mark),
            None => {
                let len = std::str::from_utf8(rest).ok()?.parse::<i64>().ok()?;
                u64::try_from(len).ok().map(Framing::Len)
            }
        }
    }
}

/// Finds the end of data that ends with a mark.
#[derive(Debug)]
pub struct Unframed {
    framing: Framing,
    read: u64,
    /// The last bytes, which may be the mark.
    tail: Vec<u8>,
}

impl Unframed {
    /// Data that is framed so.
    pub fn new(framing: Framing) -> Unframed {
        Unframed { framing, read: 0, tail: Vec::new() }
    }

    /// How much may be read next at most, so that nothing behind the data is.
    pub fn room(&self, len_max: usize) -> usize {
        match self.framing {
            Framing::Len(len) => usize::try_from(len - self.read).unwrap_or(usize::MAX).min(len_max),
            Framing::Mark(_) => len_max,
        }
    }

    /// How much has been read.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Whether all data has come.
    pub fn is_over(&self) -> bool {
        match self.framing {
            Framing::Len(len) => self.read >= len,
            Framing::Mark(mark) => mark.is(&self.tail),
        }
    }

    /// Bytes have come: what of them and of those before is data for certain goes to `to`.
    pub fn take(
        &mut self,
        bytes: &[u8],
        mut to: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        self.read += bytes.len() as u64;
        let Framing::Mark(_) = self.framing else { return to(bytes) };
        let kept = super::backlog::NAME_LEN;
        if bytes.len() >= kept {
            to(&self.tail)?;
            let (data, tail) = bytes.split_at(bytes.len() - kept);
            to(data)?;
            self.tail.clear();
            self.tail.extend_from_slice(tail);
        } else {
            let sure = (self.tail.len() + bytes.len()).saturating_sub(kept);
            to(&self.tail[..sure])?;
            self.tail.drain(..sure);
            self.tail.extend_from_slice(bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "0123456789abcdef0123456789abcdef01234567";

    fn talk(introduction: Introduction, lines: &[&str]) -> (Vec<String>, Option<Next>) {
        let (mut handshake, first) = Handshake::begin(introduction);
        let readable = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let words: Vec<&str> =
                text.split("\r\n").filter(|w| !w.is_empty() && !w.starts_with(['*', '$'])).collect();
            words.join(" ")
        };
        let mut said = vec![readable(&first)];
        for line in lines {
            match handshake.hear(line.as_bytes()) {
                Next::Send(bytes) => said.push(readable(&bytes)),
                Next::Listen => {}
                end => return (said, Some(end)),
            }
        }
        (said, None)
    }

    #[test]
    fn the_usual_conversation() {
        let own = Introduction { port: 7000, ..Introduction::default() };
        let full = format!("+FULLRESYNC {NAME} 42");
        let (said, end) = talk(own, &["+PONG", "+OK", "+OK", "", &full]);
        let expected =
            ["PING", "REPLCONF listening-port 7000", "REPLCONF capa eof capa psync2", "PSYNC ? -1"];
        assert_eq!(said, expected);
        assert_eq!(end, Some(Next::Full(StreamName::parse(NAME.as_bytes()).unwrap(), 42)));
    }

    #[test]
    fn all_that_can_be_said() {
        let name = StreamName::parse(NAME.as_bytes()).unwrap();
        let own = Introduction {
            login: Some((Some("ann".into()), "secret".into())),
            port: 7000,
            ip: Some("10.0.0.9".into()),
            known: Some((name, 99)),
            fails_over: true,
        };
        let (said, end) =
            talk(own, &["-NOAUTH Authentication required.", "+OK", "-ERR what?", "+OK", "+OK", "+CONTINUE"]);
        assert_eq!(
            said[1..4],
            ["AUTH ann secret", "REPLCONF listening-port 7000", "REPLCONF ip-address 10.0.0.9"]
        );
        assert_eq!(said[5], format!("PSYNC {NAME} 100 FAILOVER"));
        assert_eq!(end, Some(Next::GoOn(None)));
    }

    #[test]
    fn what_a_primary_refuses_is_tried_again_later() {
        for lines in [
            &["-ERR no"][..],
            &["+PONG", "+OK", "+OK", "-LOADING wait"],
            &["+PONG", "+OK", "+OK", "+FULLRESYNC x 1"],
            &["+PONG", "+OK", "+OK", "+FULLRESYNC"],
            &["+PONG", "+OK", "+OK", "-ERR no"],
            &["+PONG", "+OK", "+OK", "+CONTINUE"],
            &[
                "+PONG",
                "+OK",
                "+OK",
                "+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 18446744073709551615",
            ],
            &["+PONG", "+OK", "+OK", "rubbish"],
        ] {
            let (_, end) = talk(Introduction::default(), lines);
            assert!(matches!(end, Some(Next::Later(_))), "{lines:?}");
        }
        let own = Introduction { login: Some((None, "wrong".into())), ..Introduction::default() };
        let (_, end) = talk(own, &["+PONG", "-WRONGPASS no"]);
        assert!(matches!(end, Some(Next::Later(_))));
    }

    #[test]
    fn data_ends_at_its_length_or_mark() {
        let data: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
        let marked = [&data[..], NAME.as_bytes()].concat();
        let mark = Framing::parse(format!("$EOF:{NAME}").as_bytes()).unwrap();
        for (framing, bytes) in [(Framing::parse(b"$1000").unwrap(), &data), (mark, &marked)] {
            for step in [1, 7, 39, 40, 41, 500, 5000] {
                let (mut unframed, mut got, mut at) = (Unframed::new(framing), Vec::new(), 0);
                while !unframed.is_over() {
                    let len = unframed.room(step).min(bytes.len() - at);
                    assert!(len > 0);
                    unframed
                        .take(&bytes[at..at + len], |bytes| {
                            got.extend_from_slice(bytes);
                            Ok(())
                        })
                        .unwrap();
                    at += len;
                }
                assert_eq!((at, &got), (bytes.len(), &data), "{step}");
            }
        }
        for line in [&b"$x"[..], b"$EOF:short", b"+OK", b"$-1", b"$9223372036854775808", b""] {
            assert_eq!(Framing::parse(line), None);
        }
    }
}
