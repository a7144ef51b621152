import { jsonl } from './batches.ts';
import { FixtureServer, type Received, type Reply } from './fixture-server.ts';
import { openaiCompletion } from './shapes.ts';

interface Line {
  readonly custom_id: string;
  readonly body: { readonly messages: readonly { readonly content: string }[] };
}

interface Batch {
  readonly id: string;
  readonly lines: readonly Line[];
  readonly metadata: object;
  polls: number;
}

/** OpenAI with its Batch API, as far as the gateway uses it. Batches end at their second look. */
export class OpenAIBatchApi {
  readonly server = new FixtureServer();
  readonly batches: Batch[] = [];
  /** How a line ends; undefined for one that is missing from the results. */
  answer: (content: string) => { readonly status: number; readonly body: object } | undefined = () => ANSWERED;
  /** Takes the place of the answer to a new batch, which is not made then. */
  refuse: (() => Reply) | undefined;
  /** Cuts the answer to the next new batch, which is made. */
  loseAnswer = false;
  private files: (readonly Line[])[] = [];

  async start(): Promise<this> {
    this.server.reply = (received) => this.reply(received);
    await this.server.start();
    return this;
  }

  /** Calls that were made one by one. */
  get single(): number {
    return this.server.count(/^\/v1\/chat\/completions/);
  }

  reset(): void {
    this.server.reset();
    this.batches.length = 0;
    this.answer = () => ANSWERED;
    this.refuse = undefined;
  }

  private reply({ method, path, body }: Received): Reply {
    const [, , kind, id, part] = (path.split('?')[0] ?? '').split('/');
    if (kind === 'chat') return { body: openaiCompletion('single') };
    if (kind === 'files' && method === 'POST') {
      const lines = String(body)
        .split('\r\n')
        .filter((line) => line.startsWith('{"custom_id"'))
        .join('\n');
      this.files.push(
        lines
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line) as Line),
      );
      return { body: { id: `file-${this.files.length - 1}`, object: 'file', purpose: 'batch', status: 'processed' } };
    }
    if (kind === 'batches' && method === 'POST') {
      if (this.refuse) return this.refuse();
      const lines = this.files[Number(body.input_file_id.slice('file-'.length))] ?? [];
      const batch = { id: `batch_${this.batches.length}`, lines, metadata: body.metadata, polls: 0 };
      this.batches.push(batch);
      if (!this.loseAnswer) return { body: this.show(batch) };
      this.loseAnswer = false;
      return { headers: { 'content-type': 'application/json' }, chunks: ['{'], cut: true };
    }
    if (kind === 'batches' && id === undefined) {
      return { body: { object: 'list', data: this.batches.map((batch) => this.show(batch)), has_more: false } };
    }
    const batch = this.batches[Number(id?.replace(/\D+/g, ''))];
    if (!batch) return { status: 404, body: { error: { message: 'no such thing' } } };
    if (kind === 'batches') {
      batch.polls += 1;
      return { body: this.show(batch) };
    }
    return part === 'content' ? { body: jsonl(...this.results(batch)) } : { status: 404, body: {} };
  }

  private show({ id, metadata, polls, lines }: Batch): object {
    const done = polls > 1;
    return {
      id,
      object: 'batch',
      endpoint: '/v1/chat/completions',
      status: done ? 'completed' : 'in_progress',
      output_file_id: done ? `file-out-${id.slice('batch_'.length)}` : null,
      error_file_id: null,
      created_at: Math.floor(Date.now() / 1000),
      request_counts: { total: lines.length, completed: done ? lines.length : 0, failed: 0 },
      metadata,
    };
  }

  private results({ lines }: Batch): object[] {
    return lines.flatMap(({ custom_id, body }) => {
      const end = this.answer(body.messages[0]?.content ?? '');
      if (!end) return [];
      const response = { status_code: end.status, request_id: 'req_1', body: end.body };
      return [{ id: `batch_req_${custom_id}`, custom_id, response, error: null }];
    });
  }
}

const ANSWERED = { status: 200, body: openaiCompletion('batched') };
