import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** JSON, or the text of a multipart form. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever a provider would have received
  readonly body: any;
}

export interface Reply {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  /** JSON, raw bytes, or the chunks of a stream with an optional cut of the connection at the end. */
  readonly body?: object | Buffer;
  /** Taken no faster than the client reads. */
  readonly chunks?: Iterable<string | Buffer>;
  readonly cut?: boolean;
  /** Milliseconds before the first byte. */
  readonly delayMs?: number;
  /** What the answer waits for. */
  readonly until?: Promise<unknown>;
  /** Milliseconds between chunks. */
  readonly intervalMs?: number;
}

/** A provider of one's own making: answers as told and remembers what it was asked. */
export class FixtureServer {
  readonly received: Received[] = [];
  reply: (request: Received) => Reply = () => ({ status: 500 });
  private server: Server | undefined;

  async start(): Promise<this> {
    this.server = createServer(async (request, response) => {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      const text = Buffer.concat(parts).toString();
      const received: Received = {
        method: request.method ?? '',
        path: decodeURIComponent(request.url ?? ''),
        headers: request.headers,
        body: request.headers['content-type']?.startsWith('multipart/') ? text : text ? JSON.parse(text) : undefined,
      };
      this.received.push(received);
      const {
        status = 200,
        headers = {},
        body,
        chunks,
        cut,
        until,
        delayMs = 0,
        intervalMs = 0,
      } = this.reply(received);
      await until;
      await pause(delayMs);
      if (response.destroyed) return;
      if (chunks) {
        response.writeHead(status, { 'content-type': 'text/event-stream', ...headers });
        let first = true;
        for (const chunk of chunks) {
          if (!first) await pause(intervalMs);
          first = false;
          if (response.destroyed) return;
          if (!response.write(chunk)) await drained(response);
        }
        // Let the client see what was written before the connection breaks.
        if (cut) setTimeout(() => response.destroy(), 20);
        else response.end();
        return;
      }
      const raw = Buffer.isBuffer(body);
      response.writeHead(status, { 'content-type': raw ? 'application/octet-stream' : 'application/json', ...headers });
      response.end(raw ? body : JSON.stringify(body ?? {}));
    });
    await new Promise<void>((resolve) => this.server?.listen(0, '127.0.0.1', resolve));
    return this;
  }

  get url(): string {
    const address = this.server?.address() as AddressInfo | undefined;
    return `http://127.0.0.1:${address?.port}`;
  }

  get last(): Received {
    const last = this.received.at(-1);
    if (!last) throw new Error('nothing was received');
    return last;
  }

  /** Requests of one provider's generation endpoint, told apart by their path. */
  count(path: RegExp): number {
    return this.received.filter((request) => path.test(request.path)).length;
  }

  reset(): void {
    this.received.length = 0;
  }

  async stop(): Promise<void> {
    this.server?.closeAllConnections();
    await new Promise((resolve) => this.server?.close(resolve));
  }
}

const pause = (ms: number) => (ms > 0 ? new Promise((resolve) => setTimeout(resolve, ms)) : Promise.resolve());

const drained = (response: ServerResponse) =>
  new Promise<void>((resolve) => {
    const done = () => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.on('drain', done).on('close', done);
    if (response.destroyed) done();
  });

/** Server-sent events; an event with a `type` also gets the `event:` line that Anthropic sends. */
export const sse = (...events: readonly (object | string)[]): string[] =>
  events.map((event) => {
    if (typeof event === 'string') return `data: ${event}\n\n`;
    const { type } = event as { type?: unknown };
    return `${typeof type === 'string' ? `event: ${type}\n` : ''}data: ${JSON.stringify(event)}\n\n`;
  });
