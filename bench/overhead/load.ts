import { Agent, type IncomingMessage, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Endpoint {
  readonly port: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface Measured {
  /** Milliseconds, one per answered request, ascending. */
  readonly latencies: readonly number[];
  /** How often each status other than 200 was answered; 0 for a broken connection. */
  readonly refused: ReadonlyMap<number, number>;
  /** Whether every 429 and 503 said when to come back. */
  readonly polite: boolean;
  readonly seconds: number;
}

/** What a latency is the time until. */
export type Until = 'first byte' | 'end';

/** Closed loop: each connection sends its next request when the last one is answered, for `seconds`. */
export async function closedLoop(
  endpoint: Endpoint,
  connections: number,
  seconds: number,
  until: Until = 'end',
): Promise<Measured> {
  const meter = new Meter(endpoint, connections, until);
  const stopAt = performance.now() + seconds * 1000;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      while (performance.now() < stopAt) await meter.send(performance.now());
    }),
  );
  return meter.end();
}

/**
 * Open loop: requests come in evenly, whether or not earlier ones are answered; latency counts from when they were due.
 */
export async function openLoop(endpoint: Endpoint, perSecond: number, seconds: number): Promise<Measured> {
  const meter = new Meter(endpoint, Number.POSITIVE_INFINITY, 'end');
  const started = performance.now();
  const running: Promise<void>[] = [];
  for (let i = 0; i < perSecond * seconds; i += 1) {
    const due = started + (i * 1000) / perSecond;
    await sleep(Math.max(0, due - performance.now()));
    running.push(meter.send(due));
  }
  await Promise.all(running);
  return meter.end();
}

class Meter {
  private readonly latencies: number[] = [];
  private readonly refused = new Map<number, number>();
  private polite = true;
  private readonly started = performance.now();
  private readonly endpoint: Endpoint;
  private readonly agent: Agent;
  private readonly until: Until;

  constructor(endpoint: Endpoint, connections: number, until: Until) {
    this.endpoint = endpoint;
    this.agent = new Agent({ keepAlive: true, maxSockets: connections });
    this.until = until;
  }

  /** @param since What the latency counts from. */
  async send(since: number): Promise<void> {
    const { status, retryAfter, firstByteAt } = await this.answer();
    if (status === 200) {
      this.latencies.push((this.until === 'end' ? performance.now() : firstByteAt) - since);
      return;
    }
    this.refused.set(status, (this.refused.get(status) ?? 0) + 1);
    if ((status === 429 || status === 503) && !retryAfter) this.polite = false;
  }

  end(): Measured {
    this.agent.destroy();
    const { refused, polite } = this;
    const seconds = (performance.now() - this.started) / 1000;
    return { latencies: this.latencies.sort((a, b) => a - b), refused, polite, seconds };
  }

  private answer(): Promise<{ status: number; retryAfter: string | undefined; firstByteAt: number }> {
    const { port, path, headers, body } = this.endpoint;
    return new Promise((resolve) => {
      const options = { host: '127.0.0.1', port, path, method: 'POST', agent: this.agent, headers };
      const outgoing = request(options, (response: IncomingMessage) => {
        let firstByteAt = Number.NaN;
        response.once('data', () => {
          firstByteAt = performance.now();
        });
        response.resume();
        response.once('end', () =>
          resolve({ status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'], firstByteAt }),
        );
      });
      outgoing.once('error', () => resolve({ status: 0, retryAfter: undefined, firstByteAt: Number.NaN }));
      outgoing.end(body);
    });
  }
}

export const percentile = (ascending: readonly number[], p: number): number =>
  ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * p))] ?? Number.NaN;

export const median = (values: readonly number[]): number =>
  percentile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
