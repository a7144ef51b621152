import { Agent, request } from 'node:http';

export interface Call {
  readonly port: number;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON by POST; without it, it is a GET. */
  readonly json?: object;
  /** Told each piece of the answer as it comes. */
  readonly onText?: (text: string) => void;
}

const agent = new Agent({ keepAlive: true });
/** A bench ends, whatever it measures. */
const TIMEOUT_MS = 60_000;

/** Asks a process of this machine. Rejects unless it answers with success, within a minute. */
export function send({ port, path, headers = {}, json, onText }: Call): Promise<string> {
  const body = json && JSON.stringify(json);
  const about = body ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) } : {};
  const method = body ? 'POST' : 'GET';
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const options = { host: '127.0.0.1', port, path, method, agent, signal, headers: { ...headers, ...about } };
    const outgoing = request(options, (response) => {
      const { statusCode = 0 } = response;
      let answer = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        answer += text;
        if (statusCode < 300) onText?.(text);
      });
      response.once('error', reject);
      response.once('end', () =>
        statusCode < 300 ? resolve(answer) : reject(new Error(`${path} answered with ${statusCode}: ${answer}`)),
      );
    });
    outgoing.once('error', reject);
    outgoing.end(body);
  });
}
