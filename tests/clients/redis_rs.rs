//! A round with redis-rs, as an application would use it: many tasks over one connection, on both protocols.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, Client, ClientTlsConfig, Script, TlsCertificates, cmd, pipe};

/// What the round's user may do: this alone. A pattern is subscribed to by whoever has it word for word.
pub(crate) const RULES: &str = "~rs:* %R~shared &rs:* &rs:log.* +@all -@admin -@dangerous +client|list";

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// As whom the round goes over TLS.
pub(crate) struct Guest<'a> {
    /// Where `ca.crt`, `client.crt` and `client.key` lie.
    pub(crate) certificates: &'a Path,
    /// Its name.
    pub(crate) name: &'a str,
    /// Its password.
    pub(crate) password: &'a str,
}

/// Goes round.
pub(crate) fn round(address: SocketAddr, guest: Option<&Guest<'_>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for protocol in ["resp2", "resp3"] {
        let done = runtime.block_on(async {
            let client = client(address, protocol, guest)?;
            tokio::time::timeout(Duration::from_secs(60), all_parts(&client, guest.is_some())).await?
        });
        done.unwrap_or_else(|error| panic!("redis-rs, {protocol}: {error}"));
    }
    println!("redis-rs{}: all well", if guest.is_some() { ", TLS, a user" } else { "" });
}

fn client(address: SocketAddr, protocol: &str, guest: Option<&Guest<'_>>) -> Result<Client> {
    let Some(Guest { certificates, name, password }) = guest else {
        return Ok(Client::open(format!("redis://{address}/?protocol={protocol}"))?);
    };
    let file = |name: &str| std::fs::read(certificates.join(name));
    let client_tls =
        Some(ClientTlsConfig { client_cert: file("client.crt")?, client_key: file("client.key")? });
    let url = format!("rediss://{name}:{password}@{address}/?protocol={protocol}");
    Ok(Client::build_with_tls(url, TlsCertificates { client_tls, root_cert: Some(file("ca.crt")?) })?)
}

async fn all_parts(client: &Client, is_guest: bool) -> Result {
    let mut connection = client.get_multiplexed_async_connection().await?;
    values(&mut connection).await?;
    pipelines(&mut connection).await?;
    scripts(&mut connection).await?;
    many_tasks(&connection).await?;
    blocking_pop(client, &mut connection).await?;
    publish_and_subscribe(client, &mut connection).await?;
    if is_guest {
        rights(&mut connection).await?;
    }
    scan_and_remove(&mut connection).await
}

async fn values(connection: &mut MultiplexedConnection) -> Result {
    let bytes: Vec<u8> = (0..1 << 20).map(|n| n as u8).collect();
    let _: () = connection.set("rs:bytes", &bytes).await?;
    assert_eq!(connection.get::<_, Vec<u8>>("rs:bytes").await?, bytes);
    assert_eq!(connection.get::<_, Option<String>>("rs:none").await?, None);
    let _: () = connection.set_ex("rs:short", "x", 100).await?;
    assert!((98..=100).contains(&connection.ttl::<_, i64>("rs:short").await?));
    assert_eq!(connection.incr::<_, _, i64>("rs:n", 42).await?, 42);
    let fields = [("name", "Ada"), ("visits", "1")];
    let _: () = connection.hset_multiple("rs:user", &fields).await?;
    let user: HashMap<String, String> = connection.hgetall("rs:user").await?;
    assert_eq!(user, HashMap::from(fields.map(|(field, value)| (field.to_owned(), value.to_owned()))));
    let _: () = connection.zadd_multiple("rs:board", &[(10.0, "ada"), (7.5, "bob")]).await?;
    let board: Vec<(String, f64)> = connection.zrange_withscores("rs:board", 0, -1).await?;
    assert_eq!(board, [("bob".to_owned(), 7.5), ("ada".to_owned(), 10.0)]);
    let error = connection.get::<_, String>("rs:user").await.expect_err("it is a hash");
    assert_eq!(error.code(), Some("WRONGTYPE"), "{error}");
    Ok(())
}

async fn pipelines(connection: &mut MultiplexedConnection) -> Result {
    let mut many = pipe();
    for n in 0..500 {
        many.set(format!("rs:p:{n}"), n).ignore().get(format!("rs:p:{n}"));
    }
    let numbers: Vec<i64> = many.query_async(connection).await?;
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());
    let (n, text): (i64, String) =
        pipe().atomic().set("rs:t", 1).ignore().incr("rs:t", 1).get("rs:t").query_async(connection).await?;
    assert_eq!((n, &*text), (2, "2"));
    Ok(())
}

async fn scripts(connection: &mut MultiplexedConnection) -> Result {
    // Loaded when the server does not know it yet, and called by its digest.
    let script = Script::new("return {redis.call('INCRBY', KEYS[1], ARGV[1]), 'text', false}");
    for expected in [5, 10] {
        let answer: (i64, String, Option<String>) =
            script.key("rs:script").arg(5).invoke_async(connection).await?;
        assert_eq!(answer, (expected, "text".to_owned(), None));
    }
    let failing = Script::new("return redis.call('INCR', KEYS[1])");
    let error = failing.key("rs:user").invoke_async::<i64>(connection).await.expect_err("it is a hash");
    assert_eq!(error.code(), Some("WRONGTYPE"), "{error}");
    Ok(())
}

async fn many_tasks(connection: &MultiplexedConnection) -> Result {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..50 {
        let mut own = connection.clone();
        tasks.spawn(async move {
            for n in 0..20 {
                let _: i64 = own.incr("rs:shared", 1).await?;
                let mine = format!("rs:task:{task}");
                let _: () = own.set(&mine, n).await?;
                assert_eq!(own.get::<_, i64>(&mine).await?, n, "replies are not mixed up");
            }
            redis::RedisResult::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    assert_eq!(connection.clone().get::<_, i64>("rs:shared").await?, 50 * 20);
    Ok(())
}

async fn blocking_pop(client: &Client, connection: &mut MultiplexedConnection) -> Result {
    let mut own = client.get_multiplexed_async_connection().await?;
    let waiter = tokio::spawn(async move { own.bzpopmin::<_, (String, String, f64)>("rs:jobs", 10.0).await });
    while !cmd("CLIENT").arg("LIST").query_async::<String>(connection).await?.contains(" flags=b") {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let _: () = connection.zadd("rs:jobs", "first", 1).await?;
    assert_eq!(waiter.await??, ("rs:jobs".to_owned(), "first".to_owned(), 1.0));
    Ok(())
}

async fn publish_and_subscribe(client: &Client, connection: &mut MultiplexedConnection) -> Result {
    let mut listener = client.get_async_pubsub().await?;
    listener.subscribe("rs:news").await?;
    listener.psubscribe("rs:log.*").await?;
    for (channel, payload) in [("rs:news", "one"), ("rs:log.web", "two")] {
        assert_eq!(connection.publish::<_, _, i64>(channel, payload).await?, 1);
        let message = listener.on_message().next().await.ok_or("the connection is lost")?;
        assert_eq!((message.get_channel_name(), &*message.get_payload::<String>()?), (channel, payload));
        assert_eq!(message.from_pattern(), channel != "rs:news");
    }
    Ok(())
}

/// A user of its own has its keys and channels, and nothing else.
async fn rights(connection: &mut MultiplexedConnection) -> Result {
    assert_eq!(connection.get::<_, Option<String>>("shared").await?, None);
    for refused in [
        &["GET", "elsewhere"][..],
        &["SET", "shared", "x"],
        &["PUBLISH", "elsewhere", "x"],
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
        &["ACL", "LIST"],
    ] {
        let done = cmd(refused[0]).arg(&refused[1..]).query_async::<redis::Value>(connection).await;
        assert_eq!(done.expect_err("it is not allowed").code(), Some("NOPERM"), "{refused:?}");
    }
    Ok(())
}

async fn scan_and_remove(connection: &mut MultiplexedConnection) -> Result {
    let mut keys = BTreeSet::new();
    let mut found = connection.scan_match::<_, String>("rs:*").await?;
    while let Some(key) = found.next_item().await {
        keys.insert(key?);
    }
    drop(found);
    assert!((0..500).all(|n| keys.contains(&format!("rs:p:{n}"))), "{} keys", keys.len());
    let keys: Vec<_> = keys.into_iter().collect();
    assert_eq!(connection.unlink::<_, usize>(&keys).await?, keys.len());
    Ok(())
}
