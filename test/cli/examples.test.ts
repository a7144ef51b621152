import { type ChildProcess, spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MASTER_KEY, startGateway, type TestGateway } from '../support/gateway.ts';

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startGateway('providers: { demo: { type: demo } }');
});
afterAll(() => gateway.stop());

const start = (
  command: string,
  ...args: readonly string[]
): ChildProcess & { readonly ended: Promise<number | null> } => {
  const env = { PATH: process.env.PATH, GATEWAY_URL: gateway.url, GATEWAY_MASTER_KEY: MASTER_KEY };
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  return Object.assign(child, { ended: new Promise<number | null>((done) => child.once('close', done)) });
};
const example = (name: string, ...args: readonly string[]) =>
  start(process.execPath, resolve(import.meta.dirname, '..', '..', 'examples', name), ...args);
const said = (child: ChildProcess): Promise<string> => (child.stdout ? text(child.stdout) : Promise.resolve(''));

const DEMO = "Hello from Holdfast's demo provider. You said: ";

describe('the example', () => {
  it.each([
    [
      'research.mjs',
      ['completed  plan (planner)', 'completed  search (searcher)'],
      `${DEMO}How do lighthouses work? Notes: ${DEMO}Search for answers to: {"questions":["demo"]}\n`,
    ],
    [
      'code-review.mjs',
      ['Apply the reviewed code?', `\n-function total(items) {\n+${DEMO}function`, 'approved   approve: approval'],
      'items[i].price;\n  return sum;\n}\n',
    ],
    ['jury.mjs', ['running    jury', 'completed  verdict (foreman)'], '\\"reason\\":\\"demo\\"}"\n}\n'],
    [
      'supervisor.mjs',
      ['completed  plan.1.1 (flights)', 'completed  plan.1.2 (hotels)'],
      'The tools answered: {"airline":"demo","price_usd":100} and {"hotel":"demo","price_usd":100}\n',
    ],
  ])('%s does what it says', async (name, steps, end) => {
    const child = example(name);
    const [output, code] = await Promise.all([said(child), child.ended]);
    for (const step of steps) expect(output).toContain(step);
    expect(output.slice(-end.length)).toBe(end);
    expect(code).toBe(0);
  });

  it('code-review.mjs --wait prints a curl line that approves', async () => {
    const child = example('code-review.mjs', '--wait');
    let output = '';
    const curl = await new Promise<string>((found) => {
      child.stdout?.on('data', (chunk: Buffer) => {
        output += chunk;
        const line = /^ {2}(curl .*)$/m.exec(output)?.[1];
        if (line) found(line);
      });
    });
    expect(await start('bash', '-c', `${curl} --silent --fail --output /dev/null`).ended).toBe(0);
    expect(await child.ended).toBe(0);
    expect(output).toContain('approved   approve: approval');
  });
});
