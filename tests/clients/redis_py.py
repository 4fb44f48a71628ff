"""A round with redis-py, as an application would use it. The exit code tells.

Arguments: host and port, and for TLS the folder of ca.crt, client.crt and client.key, then a user and a password.
"""

import sys
import threading
import time

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

HOST, PORT = sys.argv[1], int(sys.argv[2])
TLS = {}
if len(sys.argv) > 3:
    TLS = {
        "ssl": True,
        "ssl_ca_certs": f"{sys.argv[3]}/ca.crt",
        "ssl_certfile": f"{sys.argv[3]}/client.crt",
        "ssl_keyfile": f"{sys.argv[3]}/client.key",
        "username": sys.argv[4],
        "password": sys.argv[5],
    }
PATIENCE = 10


def connect(**options):
    return redis.Redis(host=HOST, port=PORT, decode_responses=True, socket_timeout=PATIENCE, **TLS, **options)


def eventually(what):
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.005)


def next_message(pubsub, kind):
    """The next of a subscriber's messages; confirmations of another kind are a mistake."""
    deadline = time.monotonic() + PATIENCE
    message = None
    while message is None:
        assert time.monotonic() < deadline, "no message comes"
        message = pubsub.get_message(timeout=0.1)
    assert message["type"] == kind, message
    return message


def strings(r):
    assert r.set("greeting", "hello", ex=100) is True
    assert r.get("greeting") == "hello"
    assert 98 <= r.ttl("greeting") <= 100
    assert r.set("greeting", "again", nx=True) is None
    assert r.set("greeting", "again", xx=True, keepttl=True, get=True) == "hello"
    assert r.mset({"a": 1, "b": 2}) and r.mget("a", "none", "b") == ["1", None, "2"]
    assert (r.incr("n"), r.incrby("n", 41), r.decr("n")) == (1, 42, 41)
    assert r.incrbyfloat("f", 1.5) == 1.5
    assert r.append("s", "abc") == 3 and r.getrange("s", 1, -1) == "bc" and r.strlen("s") == 3
    assert r.setbit("bits", 7, 1) == 0 and r.getbit("bits", 7) == 1 and r.bitcount("bits") == 1
    assert r.getex("greeting", persist=True) == "again" and r.ttl("greeting") == -1
    assert r.getdel("greeting") == "again" and r.exists("greeting") == 0
    binary = redis.Redis(host=HOST, port=PORT, **TLS)
    value = bytes(range(256)) * 4096
    assert binary.set("binary", value) and binary.get("binary") == value
    binary.close()


def hashes(r):
    assert r.hset("user:1", mapping={"name": "Ada", "visits": 1}) == 2
    assert r.hgetall("user:1") == {"name": "Ada", "visits": "1"}
    assert r.hincrby("user:1", "visits", 4) == 5
    assert r.hmget("user:1", "name", "none") == ["Ada", None]
    assert sorted(r.hkeys("user:1")) == ["name", "visits"] and r.hlen("user:1") == 2
    assert r.hexists("user:1", "name") and not r.hexists("user:1", "none")
    assert r.hdel("user:1", "name", "visits") == 2 and r.exists("user:1") == 0
    try:
        r.set("text", "x")
        r.hget("text", "f")
    except redis.ResponseError as error:
        assert str(error).startswith("WRONGTYPE"), error
    else:
        raise AssertionError("a string is no hash")


def sorted_sets(r):
    assert r.zadd("board", {"ada": 10, "bob": 7.5, "cyd": 3}) == 3
    assert r.zrange("board", 0, -1, withscores=True) in (
        [("cyd", 3.0), ("bob", 7.5), ("ada", 10.0)],
        [["cyd", 3.0], ["bob", 7.5], ["ada", 10.0]],
    )
    assert r.zrevrange("board", 0, 0) == ["ada"]
    assert r.zrangebyscore("board", 3, "(10") == ["cyd", "bob"]
    assert r.zincrby("board", 5, "cyd") == 8.0 and r.zscore("board", "cyd") == 8.0
    assert r.zrank("board", "ada") == 2 and r.zscore("board", "none") is None
    assert r.zadd("board", {"ada": 1}, gt=True, ch=True) == 0
    assert r.zmscore("board", ["ada", "none"]) == [10.0, None]
    assert r.zrem("board", "bob") == 1 and r.zcard("board") == 2


def blocking_pop(r):
    got = []
    waiter = connect()
    thread = threading.Thread(target=lambda: got.append(waiter.bzpopmin("jobs", timeout=PATIENCE)))
    thread.start()
    eventually(lambda: any("b" in client["flags"] for client in r.client_list()))
    r.zadd("jobs", {"first": 1})
    thread.join(PATIENCE)
    assert got and tuple(got[0]) == ("jobs", "first", 1.0), got
    assert r.bzpopmin("jobs", timeout=0.01) is None
    waiter.close()


def pipelines(r):
    with r.pipeline(transaction=False) as pipe:
        for number in range(1000):
            pipe.set(f"p:{number}", number)
        for number in range(1000):
            pipe.get(f"p:{number}")
        replies = pipe.execute()
    assert replies[:1000] == [True] * 1000 and replies[1000:] == [str(n) for n in range(1000)]
    with r.pipeline(transaction=True) as pipe:
        assert pipe.set("t", 1).incr("t").get("t").execute() == [True, 2, "2"]
    with r.pipeline(transaction=False) as pipe:
        replies = pipe.set("x", "text").incr("x").get("x").execute(raise_on_error=False)
    assert replies[0] is True and isinstance(replies[1], redis.ResponseError) and replies[2] == "text"


def optimistic_locking(r):
    """Several writers add to one counter with WATCH; each tries again when another was faster."""
    r.set("balance", 0)
    retries = []

    def add(times):
        own = connect()
        for _ in range(times):
            with own.pipeline() as pipe:
                while True:
                    try:
                        pipe.watch("balance")
                        value = int(pipe.get("balance"))
                        pipe.multi()
                        pipe.set("balance", value + 1)
                        pipe.execute()
                        break
                    except redis.WatchError:
                        retries.append(1)
        own.close()

    threads = [threading.Thread(target=add, args=(50,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert r.get("balance") == "200", (r.get("balance"), len(retries))

    def move(pipe):
        value = int(pipe.get("balance"))
        pipe.multi()
        pipe.set("balance", value - 50)

    assert r.transaction(move, "balance") == [True] and r.get("balance") == "150"


def publish_and_subscribe(r):
    listener = connect(retry=Retry(ConstantBackoff(0.01), 20), retry_on_error=[redis.ConnectionError])
    pubsub = listener.pubsub()
    pubsub.subscribe("news")
    pubsub.psubscribe("log.*")
    next_message(pubsub, "subscribe")
    next_message(pubsub, "psubscribe")
    assert r.publish("news", "one") == 1 and r.publish("log.web", "two") == 1 and r.publish("none", "x") == 0
    assert next_message(pubsub, "message")["data"] == "one"
    message = next_message(pubsub, "pmessage")
    assert (message["pattern"], message["channel"], message["data"]) == ("log.*", "log.web", "two")
    assert dict(r.pubsub_numsub("news")) == {"news": 1} and r.pubsub_numpat() == 1

    # cut off, it connects again and subscribes to the same
    assert r.client_kill_filter(_type="pubsub") == 1
    while dict(r.pubsub_numsub("news")) != {"news": 1} or r.pubsub_numpat() != 1:
        pubsub.get_message(timeout=0.05)
    while pubsub.get_message(timeout=0.05):
        pass  # the confirmations
    assert r.publish("news", "back") == 1
    assert next_message(pubsub, "message")["data"] == "back"
    pubsub.unsubscribe("news")
    next_message(pubsub, "unsubscribe")
    pubsub.close()
    listener.close()


def keyspace_events(r):
    before = r.config_get("notify-keyspace-events")["notify-keyspace-events"]
    r.config_set("notify-keyspace-events", "KEA")
    pubsub = r.pubsub()
    pubsub.psubscribe("__keyevent@0__:expired")
    next_message(pubsub, "psubscribe")
    r.set("session", "x", px=5)
    assert next_message(pubsub, "pmessage")["data"] == "session"
    pubsub.close()
    r.config_set("notify-keyspace-events", before)


def scans(r):
    r.mset({f"scan:{number}": number for number in range(500)})
    assert sorted(set(r.scan_iter(match="scan:*", count=50))) == sorted(f"scan:{n}" for n in range(500))
    r.hset("fields", mapping={f"f{n}": n for n in range(700)})
    assert dict(r.hscan_iter("fields")) == {f"f{n}": str(n) for n in range(700)}
    r.zadd("members", {f"m{n}": n for n in range(700)})
    assert dict(r.zscan_iter("members", match="m1*")) == {f"m{n}": float(n) for n in range(700) if str(n)[0] == "1"}
    assert set(r.scan_iter(_type="hash")) >= {"fields"}


def lifetimes(r):
    r.set("short", "x", px=20)
    eventually(lambda: r.get("short") is None)
    assert r.ttl("short") == -2
    r.set("k", "v")
    assert r.expire("k", 100) and not r.expire("k", 50, gt=True) and r.expire("k", 50, lt=True)
    assert 48 <= r.ttl("k") <= 50 and r.persist("k") and r.ttl("k") == -1
    assert r.expireat("k", 33177117420) and r.expiretime("k") == 33177117420


def server(r):
    info = r.info()
    assert info["redis_version"] and info["connected_clients"] >= 1
    assert r.info("keyspace")["db0"]["keys"] == r.dbsize()
    assert r.config_get("maxmemory")["maxmemory"] == "0"
    assert r.client_setname("round") is True and r.client_getname() == "round"
    assert any(client["name"] == "round" for client in r.client_list())
    assert r.client_info().get("lib-name", "redis-py") == "redis-py"  # the library tells it since Redis 7.2
    assert abs(r.time()[0] - time.time()) < 5
    assert r.type("k") == "string" and r.object("encoding", "k") == "embstr"
    assert r.rename("k", "k2") and r.copy("k2", "k3") and r.unlink("k2", "k3") == 2
    assert r.command_count() > 100
    r.slowlog_reset()
    assert r.slowlog_len() >= 0
    assert r.ping() is True and r.echo("x") == "x"


def main():
    for protocol in (2, 3):
        r = connect(protocol=protocol, client_name="redis-py-round")
        r.flushall()
        for part in (
            strings,
            hashes,
            sorted_sets,
            blocking_pop,
            pipelines,
            optimistic_locking,
            publish_and_subscribe,
            keyspace_events,
            scans,
            lifetimes,
            server,
        ):
            try:
                part(r)
            except Exception:
                print(f"redis-py {redis.__version__}, RESP{protocol}: {part.__name__} fails", file=sys.stderr)
                raise
        r.flushall()
        r.close()
        print(f"redis-py {redis.__version__}, RESP{protocol}{', TLS, a user' if TLS else ''}: all well")


main()
