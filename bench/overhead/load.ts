import { Agent, request } from 'node:http';

export interface Endpoint {
  readonly port: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface Measured {
  /** Milliseconds, one per answered request, ascending. */
  readonly latencies: readonly number[];
  readonly errors: number;
  readonly seconds: number;
}

/** Closed loop: each connection sends its next request when the last one is answered, for `seconds`. */
export async function load(endpoint: Endpoint, connections: number, seconds: number): Promise<Measured> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const latencies: number[] = [];
  let errors = 0;
  const started = performance.now();
  const until = started + seconds * 1000;
  const connection = async () => {
    while (performance.now() < until) {
      const sent = performance.now();
      if (await answered(endpoint, agent)) latencies.push(performance.now() - sent);
      else errors += 1;
    }
  };
  await Promise.all(Array.from({ length: connections }, connection));
  const elapsed = (performance.now() - started) / 1000;
  agent.destroy();
  return { latencies: latencies.sort((a, b) => a - b), errors, seconds: elapsed };
}

const answered = ({ port, path, headers, body }: Endpoint, agent: Agent): Promise<boolean> =>
  new Promise((resolve) => {
    const outgoing = request({ host: '127.0.0.1', port, path, method: 'POST', agent, headers }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode === 200));
    });
    outgoing.once('error', () => resolve(false));
    outgoing.end(body);
  });

export const percentile = (ascending: readonly number[], p: number): number =>
  ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * p))] ?? Number.NaN;
