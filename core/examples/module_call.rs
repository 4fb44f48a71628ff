//! What a module's command costs over one of the core that does the same work.
//!
//! `cargo build --release -p mortise-hello && cargo run --release -p mortise-core --example module_call`

use std::sync::Arc;
use std::time::Instant;

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::call::{Call, Run};
use mortise_core::features;
use mortise_core::server::clock::SystemClock;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::{FAST, READONLY};
use mortise_sdk::{Error, Result};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CALLS: u32 = 2_000_000;

/// What HELLO.GREET does, in the core.
fn greet(call: &mut Call<'_>) -> Result {
    let name = std::str::from_utf8(call.arg(1)).map_err(|_| Error::new("ERR value is not valid UTF-8"))?;
    let greeting = format!("{}, {name}!", call.engine.config.server.dir);
    call.reply(greeting.as_bytes())
}

fn main() {
    let folder =
        std::env::current_exe().expect("it runs").ancestors().nth(2).expect("in examples").to_owned();
    let library = folder.join("libmortise_hello.so").display().to_string();
    let mut registry = features::registry().expect("the features are in order");
    let spec =
        Spec { usage: "GREET name", about: "Greets.", flags: &[READONLY, FAST], ..Spec::group("generic") };
    registry.install([(spec, Run::Core(greet))].into_iter(), None).expect("the name is free");
    let mut engine = Engine::new(Config::default(), Arc::new(registry), Box::new(SystemClock::new()), 7);
    engine.config.server.dir = "Hello".to_owned();
    engine.config.modules.enable_module_command = mortise_core::modules::Permission::Yes;
    let mut session = engine.connect(Default::default(), Default::default());
    let mut ask = |words: &[&[u8]]| {
        let (lent, reply) = engine.request(session.take().expect("nothing waits"), words);
        session = lent;
        reply
    };
    let loaded = ask(&[b"MODULE", b"LOAD", library.as_bytes()]);
    assert_eq!(loaded, b"+OK\r\n", "{}", String::from_utf8_lossy(&loaded));
    for _ in 0..4 {
        for command in ["GREET", "HELLO.GREET"] {
            assert_eq!(ask(&[command.as_bytes(), b"world"]), b"$13\r\nHello, world!\r\n");
            let start = Instant::now();
            (0..CALLS).for_each(|_| drop(ask(&[command.as_bytes(), b"world"])));
            println!("{command:12} {:>4} ns a call", start.elapsed().as_nanos() / u128::from(CALLS));
        }
    }
}
