// A round with ioredis, as an application would use it. The exit code tells.
// Arguments: host and port, and for TLS the folder of ca.crt, client.crt and client.key, then a user and a password.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import Redis from "ioredis";

const [host, port] = [process.argv[2], Number(process.argv[3])];
const [folder, username, password] = process.argv.slice(4);
const file = (name) => readFileSync(`${folder}/${name}`);
const tls = folder && { ca: file("ca.crt"), cert: file("client.crt"), key: file("client.key") };
const connect = (options = {}) => new Redis({ host, port, tls, username, password, commandTimeout: 10_000, ...options });

// No part hangs for ever.
setTimeout(() => {
  console.error("ioredis: the round takes too long");
  process.exit(1);
}, 60_000).unref();

async function eventually(what) {
  for (let tries = 0; tries < 2000; tries++) {
    if (await what()) return;
    await sleep(5);
  }
  assert.fail("it does not happen");
}

const parts = {
  async strings(redis) {
    assert.equal(await redis.set("greeting", "hello", "EX", 100), "OK");
    assert.equal(await redis.get("greeting"), "hello");
    assert.ok((await redis.ttl("greeting")) >= 98);
    assert.equal(await redis.set("greeting", "again", "NX"), null);
    assert.equal(await redis.mset({ a: 1, b: 2 }), "OK");
    assert.deepEqual(await redis.mget("a", "none", "b"), ["1", null, "2"]);
    assert.equal(await redis.incrby("n", 42), 42);
    assert.equal(await redis.incrbyfloat("f", "1.5"), "1.5");
    const value = Buffer.alloc(1 << 20, 0xff);
    await redis.set("binary", value);
    assert.ok(value.equals(await redis.getBuffer("binary")));
    assert.equal(await redis.getdel("greeting"), "hello");
  },

  async hashes(redis) {
    assert.equal(await redis.hset("user:1", { name: "Ada", visits: 1 }), 2);
    assert.deepEqual(await redis.hgetall("user:1"), { name: "Ada", visits: "1" });
    assert.equal(await redis.hincrby("user:1", "visits", 4), 5);
    assert.deepEqual(await redis.hmget("user:1", "name", "none"), ["Ada", null]);
    await assert.rejects(redis.get("user:1"), { name: "ReplyError", message: /^WRONGTYPE/ });
    assert.equal(await redis.hdel("user:1", "name", "visits"), 2);
  },

  async sortedSets(redis) {
    assert.equal(await redis.zadd("board", 10, "ada", 7.5, "bob", 3, "cyd"), 3);
    assert.deepEqual(await redis.zrange("board", 0, -1, "WITHSCORES"), ["cyd", "3", "bob", "7.5", "ada", "10"]);
    assert.deepEqual(await redis.zrange("board", 0, 0, "REV"), ["ada"]);
    assert.deepEqual(await redis.zrangebyscore("board", 3, "(10", "LIMIT", 1, 5), ["bob"]);
    assert.equal(await redis.zincrby("board", 5, "cyd"), "8");
    assert.deepEqual(await redis.zpopmin("board"), ["bob", "7.5"]);
    assert.deepEqual(await redis.zmscore("board", "ada", "none"), ["10", null]);
  },

  async blockingPop(redis) {
    const waiter = connect();
    const popped = waiter.bzpopmin("jobs", 5);
    await eventually(async () => /flags=b/.test(await redis.client("LIST")));
    await redis.zadd("jobs", 1, "first");
    assert.deepEqual(await popped, ["jobs", "first", "1"]);
    assert.equal(await waiter.bzpopmin("jobs", 0.01), null);
    await waiter.quit();
  },

  async pipelines(redis) {
    const pipeline = redis.pipeline();
    for (let number = 0; number < 1000; number++) pipeline.set(`p:${number}`, number).get(`p:${number}`);
    const replies = await pipeline.exec();
    assert.equal(replies.length, 2000);
    replies.forEach(([error, reply], index) => {
      assert.equal(error, null);
      assert.equal(reply, index % 2 ? String((index - 1) / 2) : "OK");
    });
    const mixed = await redis.pipeline().set("x", "text").incr("x").get("x").exec();
    assert.equal(mixed[1][0].name, "ReplyError");
    assert.equal(mixed[2][1], "text");
    // Commands of one tick go out together by themselves.
    const automatic = connect({ enableAutoPipelining: true });
    const values = await Promise.all(Array.from({ length: 500 }, (_, number) => automatic.get(`p:${number}`)));
    assert.deepEqual(values, Array.from({ length: 500 }, (_, number) => String(number)));
    automatic.disconnect();
  },

  async transactions(redis) {
    assert.deepEqual(await redis.multi().set("t", 1).incr("t").get("t").exec(), [
      [null, "OK"],
      [null, 2],
      [null, "2"],
    ]);
    await assert.rejects(redis.multi().set("t").exec(), { message: /^EXECABORT/ });

    await redis.set("balance", 0);
    let retries = 0;
    const add = async (times) => {
      const own = connect();
      while (times > 0) {
        await own.watch("balance");
        const value = Number(await own.get("balance"));
        const done = await own.multi().set("balance", value + 1).exec();
        if (done === null) retries++;
        else times--;
      }
      await own.quit();
    };
    await Promise.all([add(50), add(50), add(50), add(50)]);
    assert.equal(await redis.get("balance"), "200", `after ${retries} retries`);
  },

  async publishAndSubscribe(redis) {
    const listener = connect({ retryStrategy: () => 10 });
    assert.equal(await listener.subscribe("news"), 1);
    assert.equal(await listener.psubscribe("log.*"), 2);
    let message = once(listener, "message");
    assert.equal(await redis.publish("news", "one"), 1);
    assert.deepEqual(await message, ["news", "one"]);
    const matched = once(listener, "pmessage");
    assert.equal(await redis.publish("log.web", "two"), 1);
    assert.deepEqual(await matched, ["log.*", "log.web", "two"]);

    // Cut off, it connects again and subscribes to the same.
    assert.equal(await redis.client("KILL", "TYPE", "pubsub"), 1);
    await eventually(async () => (await redis.pubsub("NUMSUB", "news"))[1] === 1 && (await redis.pubsub("NUMPAT")) === 1);
    message = once(listener, "message");
    assert.equal(await redis.publish("news", "back"), 1);
    assert.deepEqual(await message, ["news", "back"]);
    assert.equal(await listener.unsubscribe("news"), 1);
    listener.disconnect();
  },

  async keyspaceEvents(redis) {
    const before = (await redis.config("GET", "notify-keyspace-events"))[1];
    await redis.config("SET", "notify-keyspace-events", "Ex");
    const listener = connect();
    await listener.subscribe("__keyevent@0__:expired");
    const expired = once(listener, "message");
    await redis.set("session", "x", "PX", 5);
    assert.deepEqual(await expired, ["__keyevent@0__:expired", "session"]);
    listener.disconnect();
    await redis.config("SET", "notify-keyspace-events", before);
  },

  async scans(redis) {
    await redis.mset(Object.fromEntries(Array.from({ length: 500 }, (_, number) => [`scan:${number}`, number])));
    const found = new Set();
    for await (const keys of redis.scanStream({ match: "scan:*", count: 50 })) keys.forEach((key) => found.add(key));
    assert.equal(found.size, 500);
    await redis.hset("fields", Object.fromEntries(Array.from({ length: 700 }, (_, number) => [`f${number}`, number])));
    const fields = new Map();
    for await (const pairs of redis.hscanStream("fields")) {
      for (let index = 0; index < pairs.length; index += 2) fields.set(pairs[index], pairs[index + 1]);
    }
    assert.equal(fields.size, 700);
    assert.equal(fields.get("f699"), "699");
  },

  async server(redis) {
    assert.match(await redis.info("server"), /redis_version:/);
    assert.equal(await redis.client("SETNAME", "round"), "OK");
    assert.equal(await redis.client("GETNAME"), "round");
    assert.match(await redis.client("LIST"), /name=round /);
    const other = connect({ db: 3 });
    await other.set("elsewhere", 1);
    assert.equal(await redis.exists("elsewhere"), 0);
    await other.quit();
    assert.equal(await redis.ping(), "PONG");
  },
};

const redis = connect({ connectionName: "ioredis-round" });
await redis.flushall();
for (const [name, part] of Object.entries(parts)) {
  try {
    await part(redis);
  } catch (error) {
    console.error(`ioredis: ${name} fails`);
    console.error(error);
    process.exit(1);
  }
}
await redis.flushall();
await redis.quit();
console.log(`ioredis${tls ? ", TLS, a user" : ""}: all well`);
process.exit(0); // the timers of answered commands would keep it for a while
