// BullMQ as a contender of bench/queue.py: node bullmq.mjs submit JOBS | probe TIMES | work AT_ONCE
// The same three verbs as bench/produce.py has for the Python queues; see there what they mean.
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';

const PAUSE_MS = 40;
const connect = () => new Redis(process.env.BENCH_URL, { maxRetriesPerRequest: null });
const now = () => performance.timeOrigin + performance.now();
const [verb, argument] = process.argv.slice(2);
const times = Number(argument);

const verbs = {
  async submit(queue) {
    const began = now();
    for (let n = 0; n < times; n += 1) await queue.add('job', { sent: 0 });
    console.log((now() - began) / 1000);
  },
  async probe(queue) {
    const started = connect();
    const delays = [];
    for (let n = 0; n < times; n += 1) {
      await sleep(PAUSE_MS);
      await queue.add('job', { sent: now() / 1000 });
      delays.push(Number((await started.blpop('started', 10))[1]));
    }
    console.log(JSON.stringify(delays));
    started.disconnect();
  },
};

if (verb === 'work') {
  const started = connect();
  new Worker(
    'bench',
    async (job) => {
      if (job.data.sent) await started.rpush('started', now() / 1000 - job.data.sent);
      return true;
    },
    { connection: connect(), concurrency: times },
  );
  process.on('SIGTERM', () => process.exit());
} else {
  const connection = connect();
  const queue = new Queue('bench', { connection });
  await queue.waitUntilReady();
  await verbs[verb](queue);
  await queue.close();
  connection.disconnect();
}
