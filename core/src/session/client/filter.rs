//! Which clients CLIENT LIST and CLIENT KILL mean: those to which all of it applies.

use std::mem::discriminant;

use mortise_sdk::args::parse_integer;
use mortise_sdk::{Error, Result, error};

use super::list::{ClientType, FLAGS, flags};
use crate::engine::Engine;
use crate::engine::call::{Call, Options};
use crate::engine::client::Client;
use crate::engine::session::ClientId;

/// Something that is true of a client or not.
enum Condition<'a> {
    /// It is one of these, which are in order.
    Ids(Vec<ClientId>),
    Type(ClientType),
    User(&'a [u8]),
    Address(&'a [u8]),
    LocalAddress(&'a [u8]),
    /// Its address without the port.
    Ip(&'a [u8]),
    Name(&'a [u8]),
    LibName(&'a [u8]),
    LibVersion(&'a [u8]),
    Database(u32),
    /// It has all of these letters.
    Flags(&'a [u8]),
    /// It can follow a redirection, if `r` is among these.
    Capabilities(&'a [u8]),
    /// Connected for at least so many seconds.
    Age(i64),
    /// Idle for at least so many seconds.
    Idle(i64),
}

impl Condition<'_> {
    fn holds(&self, engine: &Engine, client: &Client) -> bool {
        let now_ms = engine.now_ms;
        let is = |text: &str, wanted: &[u8]| text.as_bytes() == wanted;
        match *self {
            Condition::Ids(ref ids) => ids.binary_search(&client.id).is_ok(),
            Condition::Type(kind) => kind == ClientType::of(client),
            Condition::User(user) => *user == *client.user,
            Condition::Address(address) => is(&client.origin.address, address),
            Condition::LocalAddress(address) => is(&client.origin.local_address, address),
            Condition::Ip(ip) => is(client.origin.address.rsplit_once(':').map_or("", |(ip, _)| ip), ip),
            Condition::Name(name) => is(&client.name, name),
            Condition::LibName(name) => is(&client.lib_name, name),
            Condition::LibVersion(version) => is(&client.lib_version, version),
            Condition::Database(db) => client.db == db,
            Condition::Flags(letters) => {
                let shown = flags(engine, client);
                letters.iter().all(|letter| shown.as_bytes().contains(letter))
            }
            Condition::Capabilities(letters) => letters.iter().all(|_| client.follows_redirects),
            Condition::Age(seconds) => now_ms / 1000 - client.connected_ms / 1000 >= seconds,
            Condition::Idle(seconds) => client.idle_s(now_ms) >= seconds,
        }
    }
}

/// What is said of the clients that are meant.
#[derive(Default)]
pub(super) struct Filter<'a> {
    /// Conditions; with `false` those that must not hold.
    conditions: Vec<(bool, Condition<'a>)>,
    /// Not this one.
    except: Option<ClientId>,
}

/// Words that are followed by what they compare with, and may have NOT- in front.
const NAMES: &[&str] =
    &["ID", "TYPE", "USER", "ADDR", "LADDR", "IP", "NAME", "LIB-NAME", "LIB-VER", "DB", "FLAGS", "CAPA"];

impl<'a> Filter<'a> {
    /// By the address alone: the old form of CLIENT KILL.
    pub(super) fn of_address(address: &'a [u8]) -> Filter<'a> {
        Filter { conditions: vec![(true, Condition::Address(address))], except: None }
    }

    /// Reads conditions from an argument on. What is wrong with a number is said in the words of the command.
    pub(super) fn parse(call: &Call<'a>, from: usize, numbers: Numbers) -> Result<Filter<'a>> {
        let mut filter = Filter::default();
        let mut options = call.options(from);
        while !options.is_empty() {
            filter.take(call, &mut options, numbers)?;
        }
        Ok(filter)
    }

    /// Leaves one out, unless SKIPME has said otherwise.
    pub(super) fn skipping(call: &Call<'a>, from: usize, numbers: Numbers) -> Result<Filter<'a>> {
        let own = call.session.id;
        let mut filter = Filter { except: Some(own), ..Filter::default() };
        let mut options = call.options(from);
        while !options.is_empty() {
            let Some(word) = options.takes_value("SKIPME") else {
                filter.take(call, &mut options, numbers)?;
                continue;
            };
            filter.except = match word.to_ascii_lowercase().as_slice() {
                b"yes" => Some(own),
                b"no" => None,
                _ => return Err(error::SYNTAX),
            };
        }
        Ok(filter)
    }

    fn take(&mut self, call: &Call<'a>, options: &mut Options<'a>, numbers: Numbers) -> Result {
        for (word, condition) in [("MAXAGE", Condition::Age as fn(i64) -> _), ("IDLE", Condition::Idle)] {
            if let Some(seconds) = options.takes_value(word) {
                self.set(true, condition(positive(word, seconds)?));
                return Ok(());
            }
        }
        let is_known =
            |word: &[u8]| NAMES.iter().copied().find(|name| word.eq_ignore_ascii_case(name.as_bytes()));
        let word = options.peek().unwrap_or_default();
        let (holds, word) = match word.get(..4) {
            Some(not) if not.eq_ignore_ascii_case(b"NOT-") => (false, &word[4..]),
            _ => (true, word),
        };
        let name = is_known(word).ok_or(error::SYNTAX)?;
        options.required()?;
        let value = options.required()?;
        let condition = match name {
            "ID" => Condition::Ids(ids(value, options, numbers)?),
            "TYPE" => Condition::Type(ClientType::parse(value)?),
            "USER" => Condition::User(known_user(call, value)?),
            "ADDR" => Condition::Address(value),
            "LADDR" => Condition::LocalAddress(value),
            "IP" => Condition::Ip(value),
            "NAME" => Condition::Name(value),
            "LIB-NAME" => Condition::LibName(value),
            "LIB-VER" => Condition::LibVersion(value),
            "DB" => Condition::Database(database(call, value)?),
            "FLAGS" => Condition::Flags(known_letters("flags", value, FLAGS)?),
            _ => Condition::Capabilities(known_letters("capa", value, "r")?),
        };
        self.set(holds, condition);
        Ok(())
    }

    /// What is said twice is what was said last.
    fn set(&mut self, holds: bool, condition: Condition<'a>) {
        let kind = discriminant(&condition);
        self.conditions.retain(|(held, before)| *held != holds || discriminant(before) != kind);
        self.conditions.push((holds, condition));
    }

    /// Whether a client is meant.
    pub(super) fn applies(&self, engine: &Engine, client: &Client) -> bool {
        self.except != Some(client.id)
            && self.conditions.iter().all(|(holds, condition)| condition.holds(engine, client) == *holds)
    }
}

/// What a command says of a number that names no client, and whether it minds if none ever could.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    pub(super) refused: &'static str,
    pub(super) positive: bool,
}

/// One number or several, in order.
fn ids(first: &[u8], options: &mut Options<'_>, numbers: Numbers) -> Result<Vec<ClientId>> {
    let refused = || Error::new(numbers.refused);
    let id = |n: i64| match ClientId::try_from(n) {
        Ok(id) if id > 0 => Ok(id),
        _ if numbers.positive => Err(refused()),
        // No client has this one.
        _ => Ok(0),
    };
    let mut ids = vec![id(parse_integer(first).ok_or_else(refused)?)?];
    while let Some(next) = options.peek().and_then(parse_integer) {
        ids.push(id(next)?);
        options.required()?;
    }
    ids.sort_unstable();
    Ok(ids)
}

fn positive(word: &str, text: &[u8]) -> Result<i64> {
    let word = word.to_ascii_lowercase();
    let seconds = parse_integer(text)
        .ok_or_else(|| Error::text(format!("ERR {word} is not an integer or out of range")))?;
    if seconds <= 0 {
        return Err(Error::text(format!("ERR {word} should be greater than 0")));
    }
    Ok(seconds)
}

fn known_user<'a>(call: &Call<'_>, name: &'a [u8]) -> Result<&'a [u8]> {
    call.engine.users.find(name).map(|_| name).ok_or_else(|| Error::quoting("ERR No such user '{}'", &[name]))
}

fn database(call: &Call<'_>, text: &[u8]) -> Result<u32> {
    const NO_INTEGER: Error = Error::new("ERR DB is not an integer or out of range");
    const NO_DATABASE: Error = Error::new("ERR DB number should be between 0 and the number of databases");
    let index = parse_integer(text).ok_or(NO_INTEGER)?;
    let exists = |index: &u32| *index < call.engine.config.keyspace.databases;
    u32::try_from(index).ok().filter(exists).ok_or(NO_DATABASE)
}

fn known_letters<'a>(what: &str, letters: &'a [u8], known: &str) -> Result<&'a [u8]> {
    if letters.iter().all(|letter| known.as_bytes().contains(letter)) {
        return Ok(letters);
    }
    Err(Error::quoting("ERR Unknown {} found in the provided filter: {}", &[what.as_bytes(), letters]))
}
