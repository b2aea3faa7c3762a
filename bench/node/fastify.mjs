// What bench/http.py compares the API with: Fastify in front of BullMQ, POST, batch and GET of jobs. Checks the same few fields.
import Fastify from 'fastify';
import { Job, Queue } from 'bullmq';
import { Redis } from 'ioredis';

const queue = new Queue('bench', { connection: new Redis(process.env.BENCH_URL, { maxRetriesPerRequest: null }) });
const app = Fastify({ bodyLimit: 20 << 20 });

const data = {
  type: 'object',
  required: ['projectFiles'],
  properties: {
    chatId: { type: 'string' },
    projectFiles: { type: 'object', minProperties: 1, additionalProperties: { type: 'string' } },
  },
};
const body = {
  type: 'object',
  required: ['type', 'data'],
  properties: { type: { enum: ['build', 'test', 'lint', 'analyze'] }, priority: { type: 'integer' }, data },
};

app.post('/api/jobs', { schema: { body } }, async (request, reply) => {
  const job = await queue.add(request.body.type, request.body.data);
  reply.code(201);
  return { jobId: job.id, type: job.name, status: 'pending', createdAt: new Date(job.timestamp).toISOString() };
});

const batch = { type: 'object', required: ['jobs'], properties: { jobs: { type: 'array', maxItems: 100, items: body } } };

app.post('/api/jobs/batch', { schema: { body: batch } }, async (request) => {
  const jobs = await queue.addBulk(request.body.jobs.map(({ type, data }) => ({ name: type, data })));
  return { results: jobs.map((job) => ({ jobId: job.id, type: job.name, status: 'pending' })) };
});

app.get('/api/jobs/:id', async (request, reply) => {
  const job = await Job.fromId(queue, request.params.id);
  if (!job) return reply.code(404).send({ error: 'no such job' });
  const status = await job.getState();
  return { jobId: job.id, type: job.name, status, progress: job.progress, createdAt: new Date(job.timestamp).toISOString() };
});

await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
