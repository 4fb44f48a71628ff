//! Spaces: tenants that share a server see nothing of each other.

use std::sync::Arc;

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::outbox::Outbox;
use mortise_core::engine::session::Session;
use mortise_core::features;
use mortise_core::keyspace::SpaceId;
use mortise_core::server::clock::SystemClock;

struct Tenant {
    session: Option<Box<Session>>,
    outbox: Arc<Outbox>,
}

impl Tenant {
    fn new(engine: &mut Engine, space: SpaceId) -> Tenant {
        let outbox = Arc::new(Outbox::new());
        let mut session = engine.connect(outbox.clone(), Default::default()).expect("there is room");
        session.space = space;
        engine.clients.get_mut(session.id).expect("it is connected").space = space;
        Tenant { session: Some(session), outbox }
    }

    fn ask(&mut self, engine: &mut Engine, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let (session, reply) = engine.request(self.session.take().expect("nothing waits"), &words);
        self.session = session;
        String::from_utf8_lossy(&reply).trim_end().replace("\r\n", " ")
    }
}

#[test]
fn keys_channels_events_and_slow_calls_stay_in_their_space() {
    let registry = Arc::new(features::registry().expect("the features are in order"));
    let mut engine = Engine::new(Config::default(), registry, Box::new(SystemClock::new()), 1);
    let engine = &mut engine;
    let second = engine.keyspace.add_space();
    let [mut one, mut other, mut ear] =
        [SpaceId::FIRST, second, second].map(|space| Tenant::new(engine, space));
    engine.directives = Arc::new(mortise_core::server::directives().expect("they are in order"));
    assert_eq!(one.ask(engine, "CONFIG SET notify-keyspace-events KEA slowlog-log-slower-than 0"), "+OK");

    ear.ask(engine, "SUBSCRIBE news __keyevent@0__:set");
    ear.ask(engine, "PSUBSCRIBE *");
    assert_eq!(one.ask(engine, "PUBLISH news a"), ":0");
    assert_eq!(one.ask(engine, "SET key 1"), "+OK");
    assert!(!ear.outbox.is_full(), "nothing comes from another space");
    assert_eq!(other.ask(engine, "PUBLISH news a"), ":2");
    assert_eq!(other.ask(engine, "PUBSUB NUMSUB news"), "*2 $4 news :1");
    assert_eq!(one.ask(engine, "PUBSUB NUMSUB news"), "*2 $4 news :0");
    assert_eq!(one.ask(engine, "PUBSUB CHANNELS"), "*0");

    assert_eq!(other.ask(engine, "EXISTS key"), ":0");
    assert_eq!(other.ask(engine, "WATCH key"), "+OK");
    assert_eq!(one.ask(engine, "SET key 2"), "+OK");
    assert_eq!(other.ask(engine, "MULTI"), "+OK");
    assert_eq!(other.ask(engine, "EXEC"), "*0", "another space's key is another key");

    assert_eq!(one.ask(engine, "SLOWLOG RESET"), "+OK");
    assert_eq!(one.ask(engine, "GET key"), "$1 2");
    assert!(one.ask(engine, "SLOWLOG GET 10").contains("GET $3 key"));
    assert!(!other.ask(engine, "SLOWLOG GET 100").contains("GET $3 key"));
    assert_ne!(other.ask(engine, "SLOWLOG LEN"), ":0", "a reset is for one's own");
    assert_eq!(other.ask(engine, "FLUSHALL"), "+OK");
    assert_eq!(one.ask(engine, "DBSIZE"), ":1");
}
