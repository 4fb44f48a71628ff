#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use mortise_sdk::prelude::*;

module! {
    name: "hello",
    about: "Greets people and keeps guestbooks.",
    types: [Guestbook],
    commands: [GREET, SIGN, GUESTS, ERASE],
    config: HelloConfig,
    info: [INFO],
}

config! {
    /// How to greet, and how many.
    pub struct HelloConfig {
        /// The word that HELLO.GREET begins with.
        live greeting: String = String::from("Hello");
        /// How many names a guestbook may hold.
        live guests_max: usize = 1_000_000, in 1..=i64::MAX;
    }
}

const INFO: Section = Section {
    name: "",
    fields: &[Field {
        name: "greetings",
        about: "People greeted since the server started.",
        read: |_| GREETINGS.load(Ordering::Relaxed).into(),
    }],
};

static GREETINGS: AtomicU64 = AtomicU64::new(0);

const HELLO: Spec = Spec { since: "0.1.0", ..Spec::group("hello") };

const GREET: Command =
    Spec { usage: "HELLO.GREET name", about: "Greets whoever is named.", flags: &[READONLY, FAST], ..HELLO }
        .runs(|call| {
            let name = call.text(1)?;
            GREETINGS.fetch_add(1, Ordering::Relaxed);
            let greeting = format!("{}, {name}!", call.config::<HelloConfig>().greeting);
            call.reply(greeting)
        });

const SIGN: Command = Spec {
    usage: "HELLO.SIGN book name",
    about: "Writes a name into a guestbook; returns how many it now holds.",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("book", &[RW, INSERT])],
    ..HELLO
}
.runs(|call| {
    let (book, name) = (call.arg(1), call.arg(2));
    let guests_max = call.config::<HelloConfig>().guests_max;

    let mut guests = call.create::<Guestbook>(book)?; // WRONGTYPE if the key holds another type
    if guests.names.len() >= guests_max {
        return Err(Error::new("ERR the guestbook is full"));
    }
    guests.names.push(name.to_vec());
    let count = guests.names.len();

    guests.changed("hello.sign");
    call.reply(count)
});

const GUESTS: Command = Spec {
    usage: "HELLO.GUESTS book",
    about: "Returns the names in a guestbook, in the order they were signed.",
    cost: "O(N), N being the names",
    flags: &[READONLY],
    keys: &[key("book", &[RO, ACCESS])],
    ..HELLO
}
.runs(|call| {
    let (guests, mut out) = call.read::<Guestbook>(call.arg(1))?;
    out.bulks(guests.map_or(&[][..], |guests| &guests.names));
    Ok(())
});

const ERASE: Command = Spec {
    usage: "HELLO.ERASE book name",
    about: "Strikes a name out of a guestbook; returns how often it stood there.",
    cost: "O(N), N being the names",
    flags: &[WRITE],
    keys: &[key("book", &[RW, DELETE])],
    ..HELLO
}
.runs(|call| {
    let (book, name) = (call.arg(1), call.arg(2));
    let Some(mut guests) = call.edit::<Guestbook>(book)? else { return call.reply(0_usize) };
    let found = guests.names.iter().filter(|guest| *guest == name).count();
    if found == 0 {
        drop(guests); // unchanged, so nothing is propagated
        return call.reply(found);
    }
    guests.names.retain(|guest| guest != name);

    guests.changed("hello.erase"); // an empty book goes by itself
    call.reply(found)
});

/// Names in the order they were signed.
#[derive(Clone, Default)]
struct Guestbook {
    names: Vec<Vec<u8>>,
}

impl DataType for Guestbook {
    const NAME: &'static str = "guestbook";

    fn save(&self, out: &mut Saver) {
        out.len(self.names.len());
        self.names.iter().for_each(|name| out.bytes(name));
    }

    fn load(from: &mut Loader<'_>, _version: u32) -> Result<Self> {
        let names = (0..from.len()?).map(|_| from.bytes()).collect::<Result<_>>()?;
        Ok(Guestbook { names })
    }

    fn memory(&self) -> usize {
        self.names.iter().map(|name| name.capacity() + size_of_val(name)).sum()
    }

    fn len(&self) -> usize {
        self.names.len()
    }

    fn is_gone(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use mortise_sdk::testing::Host;

    use super::*;

    fn names(reply: Reply) -> Vec<String> {
        let text = |name: &Reply| String::from_utf8(name.as_bytes().unwrap().to_vec()).unwrap();
        reply.as_elements().unwrap().iter().map(text).collect()
    }

    #[test]
    fn greets_as_configured() {
        let mut host = Host::new();
        assert_eq!(host.run(&MODULE, &["HELLO.GREET", "Ann"]), Ok(Reply::Bulk(b"Hello, Ann!".into())));
        host.configure(&MODULE, "greeting", "Hi").unwrap();
        assert_eq!(host.run(&MODULE, &["hello.greet", "Ann"]), Ok(Reply::Bulk(b"Hi, Ann!".into())));
        assert!(host.run(&MODULE, &["HELLO.GREET"]).is_err());
    }

    #[test]
    fn keeps_guestbooks() {
        let mut host = Host::new();
        for (name, count) in [("Ann", 1), ("Bob", 2), ("Ann", 3)] {
            assert_eq!(host.run(&MODULE, &["HELLO.SIGN", "book", name]), Ok(Reply::Integer(count)));
        }
        host.reload("book").unwrap();
        assert_eq!(names(host.run(&MODULE, &["HELLO.GUESTS", "book"]).unwrap()), ["Ann", "Bob", "Ann"]);
        assert_eq!(host.run(&MODULE, &["HELLO.ERASE", "book", "Ann"]), Ok(Reply::Integer(2)));
        assert_eq!(host.run(&MODULE, &["HELLO.ERASE", "book", "Ann"]), Ok(Reply::Integer(0)));
        assert_eq!(host.run(&MODULE, &["HELLO.ERASE", "book", "Bob"]), Ok(Reply::Integer(1)));
        let events: Vec<_> = host.events().iter().map(|(_, event)| *event).collect();
        assert_eq!(events, ["hello.sign", "hello.sign", "hello.sign", "hello.erase", "hello.erase", "del"]);
        assert_eq!(names(host.run(&MODULE, &["HELLO.GUESTS", "book"]).unwrap()), [""; 0]);
    }

    #[test]
    fn refuses_other_types_and_full_books() {
        let mut host = Host::new();
        host.hold_other("text");
        assert_eq!(host.run(&MODULE, &["HELLO.SIGN", "text", "Ann"]), Err(mortise_sdk::error::WRONGTYPE));
        host.configure(&MODULE, "guests-max", "1").unwrap();
        host.run(&MODULE, &["HELLO.SIGN", "book", "Ann"]).unwrap();
        assert!(host.run(&MODULE, &["HELLO.SIGN", "book", "Bob"]).is_err());
        assert_eq!(names(host.run(&MODULE, &["HELLO.GUESTS", "book"]).unwrap()), ["Ann"]);
    }
}
