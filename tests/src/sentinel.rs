//! Servers that Redis's Sentinel watches: a primary, two replicas and three sentinels on loopback, and what can happen to
//! the primary.
//!
//! Sentinels and servers reach a server by a proxy of its own, so that it can be cut off. Clients that write reach it
//! directly: they are on its side of the cut.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::proxy::Proxy;
use crate::reply::Reply;
use crate::server::{Server, mortise_binary};
use crate::{Client, TempDir};

/// What happens to a primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is killed.
    Kill,
    /// It stands still for a while.
    Stop,
    /// Neither sentinels nor replicas reach it.
    Cut,
}

/// How a client makes sure of what it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Care {
    /// By `min-replicas-to-write 1` alone.
    MinReplicas,
    /// By WAIT 1 as well.
    Wait,
}

/// What a fault has cost.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The fault.
    pub fault: Fault,
    /// From the fault until another server took a write.
    pub writable: Duration,
    /// From the fault until both clients had found it: one that was cut off has taken what they said meanwhile.
    pub moved: Duration,
    /// How often a primary was replaced: more than once if the machine is so busy that sentinels take others for gone.
    pub failovers: usize,
    /// From the end of the fault until all three servers were of one mind again.
    pub healed: Duration,
    /// Acknowledged writes, of each kind of client.
    pub acknowledged: [usize; 2],
    /// Those of them that are not there in the end.
    pub lost: [usize; 2],
}

/// The name that the sentinels know the primary by.
const NAME: &str = "main";
/// How long a primary is silent before a sentinel takes it for gone. A sentinel that has lost its connection may wait for a
/// second before the next one.
const DOWN_AFTER_MS: u32 = 1500;
/// How old a replica's last word may be for `min-replicas-to-write`.
const LAG_MAX: Duration = Duration::from_secs(2);
/// How long a client waits for a reply.
const REPLY_PATIENCE: Duration = Duration::from_millis(400);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two writes of a client.
const PAUSE: Duration = Duration::from_micros(700);
/// What a sentinel may do, and nothing else.
const SENTINELS_RIGHTS: &str = "user watcher on >seen allchannels -@all +multi +slaveof +ping +exec +subscribe \
                                +config|rewrite +role +publish +info +client|setname +client|kill +script|kill";
/// What a replica may do.
const REPLICAS_RIGHTS: &str = "user copier on >copied -@all +psync +replconf +ping";

/// A server, and the way to it.
struct Watched {
    server: Server,
    proxy: Proxy,
    is_mortise: bool,
}

/// A process of redis-server in its other mode.
struct Sentinel {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A primary, two replicas, and three sentinels.
pub struct Watch {
    servers: Vec<Watched>,
    sentinels: Vec<Sentinel>,
    rounds: u32,
}

fn words(client: &mut Client, words: &[&str]) -> io::Result<String> {
    Ok(match client.call(words)? {
        Reply::Bulk(bytes) | Reply::Simple(bytes) | Reply::Error(bytes) => {
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Reply::Integer(n) => n.to_string(),
        other => format!("{other:?}"),
    })
}

fn ask(address: SocketAddr, request: &[&str]) -> io::Result<Reply> {
    let mut client = Client::connect(address)?;
    client.set_patience(REPLY_PATIENCE)?;
    client.call(request)
}

impl Sentinel {
    fn start(redis: &Path, primary: SocketAddr) -> Result<Sentinel, String> {
        let dir = TempDir::create().map_err(|error| format!("no temporary directory: {error}"))?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = free.map_err(|error| format!("no free port: {error}"))?;
        let config = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nlogfile {}\nsentinel monitor {NAME} 127.0.0.1 {} 2\n\
             sentinel auth-user {NAME} watcher\nsentinel auth-pass {NAME} seen\n\
             sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\nsentinel failover-timeout {NAME} 6000\n\
             sentinel parallel-syncs {NAME} 2\n",
            address.port(),
            dir.path().display(),
            dir.path().join("sentinel.log").display(),
            primary.port(),
        );
        let file = dir.path().join("sentinel.conf");
        fs::write(&file, config).map_err(|error| error.to_string())?;
        let child = Command::new(redis)
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        Ok(Sentinel { child, address, dir })
    }

    /// Where it says that the primary is.
    fn primary(&self) -> Option<u16> {
        let reply = ask(self.address, &["SENTINEL", "get-master-addr-by-name", NAME]).ok()?;
        let Reply::Array(items) = reply else { return None };
        match &items[..] {
            [_, Reply::Bulk(port)] => std::str::from_utf8(port).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// How often it has seen the primary replaced.
    fn failovers(&self) -> usize {
        let log = fs::read_to_string(self.dir.path().join("sentinel.log")).unwrap_or_default();
        log.matches("+switch-master ").count()
    }

    /// Whether it knows all the others and holds none of them for gone.
    fn is_calm(&self) -> bool {
        let about = |what: &str| {
            let mut text = String::new();
            if let Ok(reply) = ask(self.address, &["SENTINEL", what, NAME]) {
                flatten(&reply, &mut text);
            }
            text
        };
        let (primary, replicas, others) = (about("master"), about("replicas"), about("sentinels"));
        let all = [&primary, &replicas, &others];
        let is_gone = all.iter().any(|text| text.contains("_down") || text.contains("failover_in_progress"));
        !is_gone
            && primary.contains("num-slaves 2 ")
            && primary.contains("num-other-sentinels 2 ")
            && replicas.matches("master-link-status ok ").count() == 2
    }
}

/// All texts of a reply, one behind the other.
fn flatten(reply: &Reply, text: &mut String) {
    match reply {
        Reply::Array(items) => items.iter().for_each(|item| flatten(item, text)),
        Reply::Bulk(bytes) => {
            text.push_str(&String::from_utf8_lossy(bytes));
            text.push(' ');
        }
        _ => {}
    }
}

impl Watch {
    /// Starts servers, the first of which is the primary: Mortise where it says so, else this redis-server. The sentinels
    /// are always the latter.
    pub fn start(redis: &Path, are_mortise: [bool; 3]) -> Result<Watch, String> {
        let mortise = mortise_binary()?;
        let mut servers: Vec<Watched> = Vec::new();
        for is_mortise in are_mortise {
            let proxy = Proxy::new().map_err(|error| format!("no proxy: {error}"))?;
            let announced = format!("replica-announce-port {}", proxy.address().port());
            let first = servers.first().map(|first| first.proxy.address().port());
            let follows = first.map(|port| format!("replicaof 127.0.0.1 {port}"));
            let lag = format!("min-replicas-max-lag {}", LAG_MAX.as_secs());
            let mut directives = vec![
                "enable-debug-command yes",
                "repl-diskless-sync-delay 0",
                "replica-announce-ip 127.0.0.1",
                "min-replicas-to-write 1",
                "masteruser copier",
                "masterauth copied",
                SENTINELS_RIGHTS,
                REPLICAS_RIGHTS,
                &announced,
                &lag,
            ];
            directives.extend(follows.as_deref());
            let binary = if is_mortise { &mortise } else { redis };
            let server = Server::start_binary(binary, &directives)?;
            proxy.lead_to(server.address());
            servers.push(Watched { server, proxy, is_mortise });
        }
        let primary = servers[0].proxy.address();
        let sentinels = (0..3).map(|_| Sentinel::start(redis, primary)).collect::<Result<Vec<_>, _>>()?;
        let watch = Watch { servers, sentinels, rounds: 0 };
        watch.settle();
        Ok(watch)
    }

    /// Which of the servers are Mortise's, in letters.
    pub fn name(&self) -> String {
        self.servers.iter().map(|watched| if watched.is_mortise { 'M' } else { 'R' }).collect()
    }

    /// What everybody has logged, to be shown when something has failed.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for (number, watched) in self.servers.iter().enumerate() {
            let ports = (watched.proxy.address().port(), watched.server.address().port());
            all += &format!("== server {number}, ports {ports:?}\n{}\n", watched.server.log());
        }
        for (number, sentinel) in self.sentinels.iter().enumerate() {
            let log = fs::read_to_string(sentinel.dir.path().join("sentinel.log")).unwrap_or_default();
            all += &format!("== sentinel {number}\n{log}\n");
        }
        all
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            if Instant::now() > deadline {
                panic!("{}, round {}: {what}\n{}", self.name(), self.rounds, self.logs());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The server that all sentinels call the primary.
    fn primary(&self) -> Option<usize> {
        let named: BTreeSet<Option<u16>> = self.sentinels.iter().map(Sentinel::primary).collect();
        let port = named.first().copied().flatten().filter(|_| named.len() == 1)?;
        self.servers.iter().position(|watched| watched.proxy.address().port() == port)
    }

    /// Whether all sentinels and servers agree who is the primary, and all have the same data.
    fn is_settled(&self) -> bool {
        let Some(primary) = self.primary() else { return false };
        let port = self.servers[primary].proxy.address().port();
        let mut offsets = BTreeSet::new();
        for (number, watched) in self.servers.iter().enumerate() {
            let Ok(reply) = ask(watched.server.address(), &["INFO", "replication"]) else { return false };
            let Reply::Bulk(text) = reply else { return false };
            let text = String::from_utf8_lossy(&text).into_owned();
            let is = |line: &str| text.lines().any(|is| is == line);
            let fits = match number == primary {
                true => is("role:master") && is("connected_slaves:2"),
                false => {
                    is("role:slave")
                        && is(&format!("master_port:{port}"))
                        && is("master_link_status:up")
                        && is("master_sync_in_progress:0")
                }
            };
            if !fits {
                return false;
            }
            offsets.extend(
                text.lines().find_map(|line| line.strip_prefix("master_repl_offset:")?.parse::<u64>().ok()),
            );
        }
        // The stream goes on all the time, as sentinels publish.
        let apart = offsets.last().zip(offsets.first()).map_or(0, |(last, first)| last - first);
        apart < 1000 && self.sentinels.iter().all(Sentinel::is_calm)
    }

    fn settle(&self) {
        self.until("all are of one mind", || self.is_settled());
        self.until("the data is the same", || {
            let digest = |watched: &Watched| {
                ask(watched.server.address(), &["DEBUG", "DIGEST"])
                    .map(|reply| format!("{reply:?}"))
                    .unwrap_or_default()
            };
            let digests: BTreeSet<String> = self.servers.iter().map(digest).collect();
            digests.len() == 1
        });
    }

    /// Lets something happen to the primary while clients write, and waits until all is well again.
    pub fn suffer(&mut self, fault: Fault) -> Outcome {
        self.rounds += 1;
        let old = self.primary().expect("they agree");
        let failovers = self.sentinels[0].failovers();
        let ends = Arc::new(AtomicBool::new(false));
        let moved = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = [Care::MinReplicas, Care::Wait]
            .into_iter()
            .map(|care| {
                let writer = Writer {
                    care,
                    round: self.rounds,
                    ways: self
                        .servers
                        .iter()
                        .map(|w| (w.proxy.address().port(), w.server.address()))
                        .collect(),
                    sentinels: self.sentinels.iter().map(|sentinel| sentinel.address).collect(),
                    ends: ends.clone(),
                    moved: moved.clone(),
                };
                thread::spawn(move || writer.write())
            })
            .collect();
        thread::sleep(Duration::from_millis(500));
        let begun = Instant::now();
        let watched = &mut self.servers[old];
        let done = match fault {
            Fault::Kill => {
                watched.server.kill();
                true
            }
            Fault::Stop => watched.server.signal("STOP"),
            Fault::Cut => {
                watched.proxy.stall();
                true
            }
        };
        assert!(done, "{fault:?}");
        self.until("another is the primary", || self.primary().is_some_and(|new| new != old));
        let new = self.servers[self.primary().expect("they agree")].server.address();
        self.until("it takes writes", || matches!(ask(new, &["SET", "probe", "1"]), Ok(Reply::Simple(_))));
        let writable = begun.elapsed();
        self.until("clients find it", || moved.load(Ordering::Relaxed) >= writers.len());
        let all_moved = begun.elapsed();
        thread::sleep(Duration::from_millis(300));
        ends.store(true, Ordering::Relaxed);
        let written: Vec<Vec<Written>> =
            writers.into_iter().map(|writer| writer.join().expect("it ends")).collect();

        let healing = Instant::now();
        let watched = &mut self.servers[old];
        match fault {
            // As Sentinel has left its configuration.
            Fault::Kill => watched.server.restart_as_it_is(),
            Fault::Stop => assert!(watched.server.signal("CONT")),
            Fault::Cut => watched.proxy.flow(),
        }
        self.settle();
        let healed = healing.elapsed();
        let old = self.servers[old].server.address();
        let failovers = self.sentinels[0].failovers() - failovers;
        let lost: Vec<Vec<Written>> = written.iter().map(|written| self.missing(written)).collect();
        for lost in lost.iter().flatten() {
            let before = begun.saturating_duration_since(lost.at);
            let holds = (lost.by == old || failovers > 1) && before < Duration::from_secs(1);
            let text = format!("{}: {fault:?}, {failovers} failovers: {lost:?}", self.name());
            assert!(holds, "{text} was lost, {before:?} before the fault\n{}", self.logs());
        }
        let primary = self.primary().expect("they agree");
        ask(self.servers[primary].server.address(), &["FLUSHALL"]).expect("it answers");
        Outcome {
            fault,
            writable,
            failovers,
            moved: all_moved,
            healed,
            acknowledged: [written[0].len(), written[1].len()],
            lost: [lost[0].len(), lost[1].len()],
        }
    }

    /// What is not there of all that was acknowledged.
    fn missing(&self, written: &[Written]) -> Vec<Written> {
        let primary = self.primary().expect("they agree");
        let mut client = self.servers[primary].server.connect();
        let mut missing = Vec::new();
        for some in written.chunks(500) {
            let mut request = vec!["MGET"];
            request.extend(some.iter().map(|written| &*written.key));
            let Ok(Reply::Array(values)) = client.call(&request) else { panic!("MGET is not answered") };
            let absent = some.iter().zip(values).filter(|(_, value)| !matches!(value, Reply::Bulk(_)));
            missing.extend(absent.map(|(written, _)| written.clone()));
        }
        missing
    }
}

/// A write that was acknowledged.
#[derive(Clone, Debug)]
struct Written {
    key: String,
    /// By whom.
    by: SocketAddr,
    /// And when.
    at: Instant,
}

/// A client that writes to the server that sentinels name.
struct Writer {
    care: Care,
    round: u32,
    /// The ports that sentinels name, and where clients find these servers.
    ways: Vec<(u16, SocketAddr)>,
    sentinels: Vec<SocketAddr>,
    ends: Arc<AtomicBool>,
    /// How many clients have been answered by another server than at first.
    moved: Arc<AtomicUsize>,
}

impl Writer {
    fn write(self) -> Vec<Written> {
        let (mut written, mut count) = (Vec::new(), 0u64);
        while !self.ends.load(Ordering::Relaxed) {
            if let Some(address) = self.primary() {
                // A failure, of whatever kind, is a reason to ask again.
                let _ = self.write_to(address, &mut count, &mut written);
            }
            thread::sleep(Duration::from_millis(10));
        }
        written
    }

    fn primary(&self) -> Option<SocketAddr> {
        let reply = self
            .sentinels
            .iter()
            .find_map(|at| ask(*at, &["SENTINEL", "get-master-addr-by-name", NAME]).ok())?;
        let mut text = String::new();
        flatten(&reply, &mut text);
        let port: u16 = text.split_whitespace().nth(1)?.parse().ok()?;
        self.ways.iter().find(|(known, _)| *known == port).map(|(_, address)| *address)
    }

    /// Writes until something goes wrong.
    fn write_to(&self, address: SocketAddr, count: &mut u64, written: &mut Vec<Written>) -> io::Result<()> {
        let mut client = Client::connect(address)?;
        client.set_patience(REPLY_PATIENCE)?;
        while !self.ends.load(Ordering::Relaxed) {
            *count += 1;
            let key = format!("{:?}:{}:{count}", self.care, self.round);
            if words(&mut client, &["SET", &key, "v"])? != "OK" {
                return Ok(());
            }
            if self.care == Care::Wait {
                match client.call(&["WAIT", "1", "300"])? {
                    Reply::Integer(1..) => {}
                    Reply::Integer(_) => continue,
                    _ => return Ok(()),
                }
            }
            let is_first_elsewhere = written
                .first()
                .zip(written.last())
                .is_some_and(|(first, last)| first.by == last.by && first.by != address);
            if is_first_elsewhere {
                self.moved.fetch_add(1, Ordering::Relaxed);
            }
            written.push(Written { key, by: address, at: Instant::now() });
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}
