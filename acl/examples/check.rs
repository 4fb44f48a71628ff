//! What the decision costs: nanoseconds per call, for users with few rules and with many.
//!
//! `cargo run --release -p mortise-acl --example check`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use mortise_acl::{Asked, Named, Setting, Table, User};
use mortise_sdk::declare::*;

const ROWS: &[Spec] = &[
    Spec { usage: "GET key", flags: &[READONLY, FAST], keys: &[key("key", &[RO, ACCESS])], ..STRING },
    Spec { usage: "SET key value", flags: &[WRITE], keys: &[key("key", &[OW, UPDATE])], ..STRING },
    Spec { usage: "MSET <key value>...", flags: &[WRITE], keys: &[key("key", &[OW, UPDATE])], ..STRING },
    Spec { usage: "PUBLISH channel message", channels: channel("channel"), ..Spec::group("pubsub") },
    Spec { usage: "FLUSHALL", flags: &[WRITE], ..Spec::group("server") },
];
const STRING: Spec = Spec::group("string");

/// Two keys of a multi-tenant shop fit the last of twenty rules, one by the rest of its pattern.
const TWENTY: &str = "on nopass -@all +@read +@write +@pubsub -flushall +select|0 ~order:* ~cart:* ~session:* \
                      %R~product:* %R~price:* %R~stock:* %W~log:* %W~metric:* ~queue:?? ~user:*:profile &news:* ~user:*";

fn main() {
    let facts: Vec<Facts> = ROWS.iter().map(|row| Facts::of(row).expect("a good row")).collect();
    // A registry as large as Redis's, of which five commands are called.
    let others: Vec<String> = (facts.len()..380).map(|index| format!("other{index}")).collect();
    let named = facts.iter().map(|facts| (&*facts.name, facts.categories));
    let others = others.iter().map(|name| (&**name, Category::NONE));
    let named = named.chain(others.chain([("select", Category::NONE)])).enumerate();
    let table = Table::new(named.map(|(index, (name, categories))| Named {
        index,
        name,
        categories,
        from_module: false,
        is_subcommand: false,
    }));
    let setting = Setting { table: Arc::new(table), ..Setting::default() };
    let user = |rules: &str| {
        let user = User::new(b"ann", &setting).with(rules.split(' ').map(str::as_bytes), &setting);
        user.unwrap_or_else(|refused| panic!("{refused}"))
    };
    println!("{:<28}{:>10}{:>10}{:>12}{:>10}", "ns per call", "GET", "SET", "MSET of 4", "PUBLISH");
    for (name, rules) in [
        ("+@all ~* &*", "on +@all ~* &*"),
        ("+@all ~*", "on +@all ~*"),
        ("+@all -flushall ~* &*", "on +@all -flushall ~* &*"),
        ("+@all ~user:*", "on +@all ~user:*"),
        ("twenty rules", TWENTY),
        (
            "twenty rules in a selector",
            &format!("on +flushall (-@all {})", TWENTY.split_once("-@all ").expect("there").1),
        ),
    ] {
        let user = user(rules);
        let calls: [&[&str]; 4] = [
            &["get", "user:1234:visits"],
            &["set", "user:1234:visits", "1"],
            &["mset", "user:1", "a", "user:2", "b", "cart:3", "c", "order:4", "d"],
            &["publish", "news:sport", "goal"],
        ];
        print!("{name:<28}");
        for (index, words) in calls.iter().enumerate() {
            let width = if index == 2 { 12 } else { 10 };
            print!("{:>width$.1}", measure(&user, &facts[index], index, words));
        }
        println!();
    }
}

fn measure(user: &User, facts: &Facts, index: usize, words: &[&str]) -> f64 {
    const CALLS: u32 = 2_000_000;
    let mut best = f64::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        for _ in 0..CALLS {
            let words = black_box(words);
            let asked = Asked { index, facts, argc: words.len(), arg: |at: usize| words[at].as_bytes() };
            let _ = black_box(black_box(user).check(&asked));
        }
        best = best.min(begun.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
    best
}
