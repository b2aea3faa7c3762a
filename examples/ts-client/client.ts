/** A client of Chef Workers over fetch, for browsers, Node 20 and newer, Deno and Bun. Its types come from api.d.ts. */
import type { components, paths } from './api.d.ts';

type Schemas = components['schemas'];
export type Submission = Schemas['Submission'];
export type Created = Schemas['Created'];
export type Job = Schemas['Record'];
export type Problem = Schemas['Problem'];
export type BatchResult = Schemas['BatchResult'];
export type Filters = NonNullable<paths['/api/jobs']['get']['parameters']['query']>;
export type LogPart = NonNullable<paths['/api/jobs/{job_id}/logs']['get']['parameters']['query']>;
export type Artifacts = Schemas['FileList'];

/** What happened to a job. `id` is where a stream can be resumed. */
export interface JobEvent {
  id: string;
  kind: 'state' | 'progress' | 'log' | 'gap';
  data: Record<string, unknown>;
}

/** The service says no; `problem.code` is the stable name of what is wrong. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly problem: Partial<Problem>,
  ) {
    super(`${status} ${problem.detail ?? ''}`);
  }
}

interface Sending {
  method?: string;
  query?: object;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
}

export class ChefWorkers {
  /** `url` is the service's address without a path, `key` an API key if it wants one. */
  constructor(
    private readonly url: string,
    private readonly key = '',
  ) {}

  /** Hand a project in. The same `key` again means the same job. */
  submit(submission: Submission, key: string = crypto.randomUUID()): Promise<Created> {
    return this.json('/jobs', { method: 'POST', body: submission, headers: { 'Idempotency-Key': key } });
  }

  /** Hand in up to 100; each gets an answer of its own, in order. */
  async submitMany(jobs: Submission[], key: string = crypto.randomUUID()): Promise<BatchResult[]> {
    const sending = { method: 'POST', body: { jobs }, headers: { 'Idempotency-Key': key } };
    return (await this.json<Schemas['BatchResults']>('/jobs/batch', sending)).results;
  }

  /** The record, after up to `wait` seconds if the job does not end before. */
  get(jobId: string, wait = 0): Promise<Job> {
    return this.json(`/jobs/${jobId}`, { query: wait ? { wait } : {} });
  }

  /** The record once the job has ended. */
  async wait(jobId: string): Promise<Job> {
    for (;;) {
      const job = await this.get(jobId, 30);
      if (job.status === 'completed' || job.status === 'failed') return job;
    }
  }

  /** All jobs that pass the filters, newest first. */
  async *jobs(filters: Filters = {}): AsyncGenerator<Partial<Job>> {
    let cursor: string | null | undefined = filters.cursor;
    do {
      const query: Filters = cursor ? { ...filters, cursor } : filters;
      const page: Schemas['JobList'] = await this.json('/jobs', { query });
      yield* page.jobs as Partial<Job>[];
      cursor = page.next;
    } while (cursor);
  }

  cancel(jobId: string, reason = ''): Promise<Job> {
    return this.json(`/jobs/${jobId}/cancel`, { method: 'POST', body: { reason } });
  }

  /** The log as text, or a part of it. */
  async log(jobId: string, part: LogPart = {}): Promise<string> {
    return (await this.send(`/jobs/${jobId}/logs`, { query: part })).text();
  }

  artifacts(jobId: string): Promise<Artifacts> {
    return this.json(`/jobs/${jobId}/artifacts`);
  }

  async artifact(jobId: string, path: string): Promise<Blob> {
    const escaped = path.split('/').map(encodeURIComponent).join('/');
    return (await this.send(`/jobs/${jobId}/artifacts/${escaped}`)).blob();
  }

  /** What happens to a job, from its beginning or after an event, to its end. A cut connection is taken up again. */
  async *events(jobId: string, after = '', signal?: AbortSignal): AsyncGenerator<JobEvent> {
    let last = after;
    for (;;) {
      try {
        const headers: Record<string, string> = last ? { 'Last-Event-ID': last } : {};
        const answer = await this.send(`/jobs/${jobId}/events`, { headers, signal });
        if (answer.status === 204 || !answer.body) return;
        for await (const event of parsed(answer.body)) {
          last = event.id || last;
          yield event;
          if (event.data['status'] === 'completed' || event.data['status'] === 'failed') return;
        }
      } catch (error) {
        if (signal?.aborted || (error instanceof Refused && error.status < 500 && error.status !== 429)) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  }

  private async json<T>(path: string, sending: Sending = {}): Promise<T> {
    return (await this.send(path, sending)).json() as Promise<T>;
  }

  private async send(path: string, { method = 'GET', query = {}, body, headers = {}, signal }: Sending = {}) {
    const address = new URL(`/api/v1${path}`, this.url);
    for (const [name, value] of Object.entries(query)) {
      for (const each of [value].flat()) address.searchParams.append(name, String(each));
    }
    const init: RequestInit = { method, headers: { ...headers }, signal: signal ?? null };
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      init.headers = { ...headers, 'Content-Type': 'application/json' };
    }
    if (this.key) init.headers = { ...init.headers, Authorization: `Bearer ${this.key}` };
    const answer = await fetch(address, init);
    if (!answer.ok) throw new Refused(answer.status, (await answer.json().catch(() => ({}))) as Partial<Problem>);
    return answer;
  }
}

/** Server-sent events, as this service writes them: one line for each field. */
async function* parsed(body: ReadableStream<Uint8Array>): AsyncGenerator<JobEvent> {
  let rest = '';
  for await (const text of body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)) {
    const blocks = (rest + text).split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const fields = new Map(block.split('\n').map((line) => line.split(/: (.*)/s, 2) as [string, string]));
      const data = fields.get('data');
      if (data) yield { id: fields.get('id') ?? '', kind: fields.get('event') as JobEvent['kind'], data: JSON.parse(data) };
    }
  }
}
