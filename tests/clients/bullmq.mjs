// A round with BullMQ, as an application would use it. The exit code tells.
// Arguments: host and port, and for TLS the folder of ca.crt, client.crt and client.key, then a user and a password.
//
// A queue as such needs hashes and sorted sets; its jobs need lists, sets and streams. As long as the server lacks one of
// their commands, jobs are left out, and that is said.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";
import Redis from "ioredis";

const [host, port] = [process.argv[2], Number(process.argv[3])];
const [folder, username, password] = process.argv.slice(4);
const file = (name) => readFileSync(`${folder}/${name}`);
const tls = folder && { ca: file("ca.crt"), cert: file("client.crt"), key: file("client.key") };
const connection = { host, port, tls, username, password };

// No part hangs for ever.
setTimeout(() => {
  console.error("BullMQ: the round takes too long");
  process.exit(1);
}, 60_000).unref();

/** What jobs need beyond hashes, sorted sets and scripts. */
const FOR_JOBS = [
  ..."LINDEX LLEN LPOS LPUSH LRANGE LREM LTRIM RPOPLPUSH RPUSH".split(" "),
  ..."SADD SCARD SMEMBERS SREM".split(" "),
  ..."XADD XREAD XTRIM".split(" "),
];

async function missing(redis, names) {
  const infos = await redis.command("INFO", ...names);
  return names.filter((_, index) => infos[index] === null);
}

/** Resolves with what the event was emitted with. */
const once = (emitter, event, fits = () => true) =>
  new Promise((resolve) => {
    const listener = (...args) => {
      if (!fits(...args)) return;
      emitter.off(event, listener);
      resolve(args);
    };
    emitter.on(event, listener);
  });

const parts = {
  async aQueue(queue) {
    await queue.waitUntilReady();
    assert.equal(await queue.isPaused(), false);
    assert.equal(await queue.isMaxed(), false);
    assert.equal(await queue.getJob("none"), undefined);
    assert.deepEqual(await queue.getCountsPerPriority([1, 2]), { 1: 0, 2: 0 });
    assert.equal(await queue.getRateLimitTtl(), -2);
    await queue.setGlobalConcurrency(7);
    assert.equal(await queue.getGlobalConcurrency(), 7);
  },
};

const jobs = {
  async adding(queue) {
    const job = await queue.add("greet", { name: "Ada" });
    const found = await queue.getJob(job.id);
    assert.deepEqual([found.name, found.data, await found.getState()], ["greet", { name: "Ada" }, "waiting"]);
    await queue.add("later", {}, { delay: 60_000 });
    await queue.add("important", {}, { priority: 3 });
    const bulk = await queue.addBulk(Array.from({ length: 20 }, (_, number) => ({ name: "many", data: { number } })));
    assert.equal(bulk.length, 20);
    const counts = await queue.getJobCounts("wait", "delayed", "prioritized", "completed");
    assert.deepEqual(counts, { wait: 21, delayed: 1, prioritized: 1, completed: 0 });
    await found.updateProgress(40);
    await found.updateData({ name: "Bob" });
    await found.log("a line");
    const again = await queue.getJob(job.id);
    assert.deepEqual([again.progress, again.data], [40, { name: "Bob" }]);
    assert.deepEqual(await queue.getJobLogs(job.id), { logs: ["a line"], count: 1 });
    await queue.pause();
    assert.equal(await queue.isPaused(), true);
    await queue.resume();
    await again.remove();
    await queue.drain(true);
    assert.equal(await queue.count(), 0);
  },

  async working(queue) {
    const events = new QueueEvents(queue.name, { connection });
    await events.waitUntilReady();
    const order = [];
    const work = async (job) => {
      order.push(job.name);
      if (job.name === "fragile" && job.attemptsMade === 0) throw new Error("once");
      if (job.name === "hopeless") throw new Error("always");
      return { done: job.data.number };
    };
    for (let number = 0; number < 50; number++) await queue.add("many", { number });
    await queue.add("first", {}, { lifo: true });
    const worker = new Worker(queue.name, work, { connection });
    const last = await queue.add("later", { number: 99 }, { delay: 50 });
    assert.deepEqual(await last.waitUntilFinished(events, 10_000), { done: 99 });
    assert.equal(order[0], "first");
    const fragile = await queue.add("fragile", { number: 1 }, { attempts: 2, backoff: { type: "fixed", delay: 10 } });
    assert.deepEqual(await fragile.waitUntilFinished(events, 10_000), { done: 1 });
    const failed = once(events, "failed");
    const hopeless = await queue.add("hopeless", {});
    const [{ jobId, failedReason }] = await failed;
    assert.deepEqual([jobId, failedReason], [hopeless.id, "always"]);
    assert.equal(await (await queue.getJob(hopeless.id)).getState(), "failed");
    const counts = await queue.getJobCounts("wait", "active", "completed", "failed");
    assert.deepEqual(counts, { wait: 0, active: 0, completed: 53, failed: 1 });
    assert.equal((await queue.clean(0, 100, "completed")).length, 53);
    await worker.close();
    await events.close();
  },

  async flowing(queue) {
    const flow = new FlowProducer({ connection });
    const children = [1, 2, 3].map((number) => ({ name: "child", queueName: queue.name, data: { number } }));
    const tree = await flow.add({ name: "parent", queueName: queue.name, children });
    const work = async (job) => {
      if (job.name === "child") return job.data.number;
      return Object.values(await job.getChildrenValues()).reduce((sum, number) => sum + number, 0);
    };
    const worker = new Worker(queue.name, work, { connection, concurrency: 4 });
    const [, sum] = await once(worker, "completed", (job) => job.id === tree.job.id);
    assert.equal(sum, 6);
    await worker.close();
    await flow.close();
  },

  async obliterating(queue, redis) {
    await queue.add("left", {});
    await queue.obliterate({ force: true });
    assert.equal(await redis.exists(`bull:${queue.name}:meta`, `bull:${queue.name}:wait`), 0);
  },
};

async function all(named, ...args) {
  for (const [name, part] of Object.entries(named)) {
    try {
      await part(...args);
    } catch (error) {
      console.error(`BullMQ: ${name} fails`);
      console.error(error);
      process.exit(1);
    }
  }
}

const redis = new Redis({ ...connection, commandTimeout: 10_000 });
const queue = new Queue("round", { connection });
await all(parts, queue);
const lacking = await missing(redis, FOR_JOBS);
if (lacking.length === 0) {
  await all(jobs, queue, redis);
}
if (username) {
  // A user of its own has its keys, and nothing else.
  await assert.rejects(redis.get("elsewhere"), { message: /^NOPERM/ });
  await assert.rejects(redis.eval("return redis.call('GET', 'elsewhere')", 0), { message: /can't access at least one of the keys/ });
  await assert.rejects(redis.flushall(), { message: /^NOPERM/ });
}
await redis.del("bull:round:meta");
await queue.close();
await redis.quit();
const said = lacking.length === 0 ? "all well" : `a queue is well; no jobs, as the server has no ${lacking.join(", ")}`;
console.log(`BullMQ${tls ? ", TLS, a user" : ""}: ${said}`);
process.exit(0); // the timers of answered commands would keep it for a while
