import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { freePort } from '../../embedded/ports.ts';
import { identify } from '../../embedded/process-identity.ts';
import { eventually } from '../support/gateway.ts';
import { HoldfastProcess } from '../support/process.ts';

let dir: string;
let env: Record<string, string>;
let url: string;
const isRunning = (pid: number): boolean => identify(pid) !== undefined;
const processes: HoldfastProcess[] = [];
const run = (args: readonly string[], extra: Record<string, string> = {}) => {
  const started = new HoldfastProcess(args, { ...env, ...extra }, dir);
  processes.push(started);
  return started;
};
const childPid = (name: string): number => JSON.parse(readFileSync(join(dir, 'data', `${name}.pid`), 'utf8')).pid;
const masterKey = (): string => JSON.parse(readFileSync(join(dir, 'data', 'secrets.json'), 'utf8')).masterKey;
const ask = (content: string, headers: Record<string, string> = {}) =>
  fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${masterKey()}`, 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ model: 'demo', messages: [{ role: 'user', content }] }),
  });
const get = async (path: string) => {
  const response = await fetch(url + path, { headers: { authorization: `Bearer ${masterKey()}` } });
  // biome-ignore lint/suspicious/noExplicitAny: the test looks into the answer
  return { status: response.status, body: (await response.json()) as any };
};

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'holdfast-start-'));
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  env = {
    GATEWAY_DATA_DIR: join(dir, 'data'),
    GATEWAY_PORT: String(port),
    GATEWAY_TEMPORAL_PORT: String(await freePort()),
    GATEWAY_TEMPORAL_UI_PORT: String(await freePort()),
  };
});
afterEach(async () => {
  for (const started of processes.splice(0)) await started.kill('SIGKILL');
  for (const name of ['temporal', 'postgres']) {
    if (!existsSync(join(dir, 'data', `${name}.pid`))) continue;
    const pid = childPid(name);
    if (isRunning(pid)) process.kill(pid, 'SIGKILL');
    await eventually(async () => !isRunning(pid));
  }
  rmSync(dir, { recursive: true, force: true });
});

describe('holdfast start', () => {
  it('prints a curl line that works, keeps its keys, and stops without leaving anything', async () => {
    const gateway = run(['start']);
    await gateway.says(/Try it:[\s\S]*'\n\n/);
    const [, curl] = /Try it:\s+(curl[\s\S]*?)\n\n/.exec(gateway.stderr) ?? [];
    const { stdout } = await promisify(execFile)('bash', ['-c', `${curl} --silent --fail`]);
    expect(JSON.parse(stdout)).toMatchObject({
      choices: [{ message: { content: "Hello from Holdfast's demo provider. You said: Hello!" } }],
      metadata: { provider: 'demo' },
    });
    const ui = /Temporal UI\s+(\S+)/.exec(gateway.stderr)?.[1] ?? '';
    expect((await fetch(ui)).status).toBe(200);

    const key = masterKey();
    const children = [childPid('temporal'), childPid('postgres')];
    expect(await gateway.kill('SIGTERM')).toBe(0);
    expect(children.filter(isRunning)).toEqual([]);
    expect(existsSync(join(dir, 'data', 'holdfast.lock'))).toBe(false);

    const again = run(['start']);
    await again.says(/Try it:/);
    expect(masterKey()).toBe(key);
    expect((await get('/logs')).body.data).toHaveLength(1);
  });

  it('finishes what runs before it stops, and takes nothing new', async () => {
    const gateway = run(['start']);
    await gateway.says(/Try it:/);
    const running = ask('Hi [demo delay=1500]');
    await eventually(async () => (await get('/logs')).body.data[0]?.attempts.length === 1);
    const ended = gateway.kill('SIGTERM');
    await gateway.says(/SIGTERM: finishing what runs/);
    await eventually(async () =>
      fetch(`${url}/health/live`).then(
        ({ status }) => status === 503,
        () => true,
      ),
    );
    expect((await running).status).toBe(200);
    expect(await ended).toBe(0);
  });

  it('recovers by itself after SIGKILL: the call that was lost is made again and accounted for', async () => {
    const gateway = run(['start']);
    await gateway.says(/Try it:/);
    const orphan = childPid('temporal');
    ask('Hi [demo delay=3000]', { 'x-request-id': 'crash-1' }).catch(() => {});
    await eventually(async () => (await get('/logs')).body.data[0]?.attempts.length === 1);
    await gateway.kill('SIGKILL');
    expect(isRunning(orphan)).toBe(true);

    const again = run(['start']);
    await again.says(/Try it:/);
    expect(isRunning(orphan)).toBe(false);
    const answer = await eventually(async () => {
      const { status, body } = await get('/v1/chat/completions/crash-1');
      return status === 200 && body;
    }, 40_000);
    expect(answer.choices[0].message.content).toContain('You said: Hi');
    expect(answer.metadata.attempts).toBe(2);
    const { body } = await get(`/logs/${answer.id}`);
    expect(body.attempts).toMatchObject([
      { n: 1, state: 'unknown' },
      { n: 2, state: 'succeeded' },
    ]);
    expect(body.attempts[0].cost_usd).toBeGreaterThan(body.attempts[1].cost_usd);
  });

  it('starts in a data directory whose making was interrupted', async () => {
    const data = join(dir, 'data');
    mkdirSync(join(data, 'postgres', 'base'), { recursive: true });
    writeFileSync(join(data, 'postgres', 'PG_VERSION'), '18');
    writeFileSync(join(data, 'temporal.db'), 'not a database');
    writeFileSync(join(data, 'holdfast.lock'), '{"pid":1,"startedAt":"long ago"}');
    writeFileSync(join(data, 'temporal.pid'), '{"pid":1,"startedAt":"long ago"}');
    writeFileSync(join(data, 'secrets.json'), '{"masterKey":');
    const gateway = run(['start']);
    await gateway.says(/Try it:/);
    expect((await ask('Hi')).status).toBe(200);
  });

  it('does not share its data directory with a second gateway', async () => {
    const gateway = run(['start']);
    await gateway.says(/Try it:/);
    const second = run(['start'], { GATEWAY_PORT: String(await freePort()) });
    expect(await second.ended).toBe(1);
    expect(second.stderr).toMatch(new RegExp(`already runs in .*data \\(process ${gateway.pid}\\).*GATEWAY_DATA_DIR`));
    expect((await ask('Hi')).status).toBe(200);
  });

  it('goes down when a part it stands on does', async () => {
    const gateway = run(['start']);
    await gateway.says(/Try it:/);
    process.kill(childPid('temporal'), 'SIGKILL');
    expect(await gateway.ended).toBe(1);
    expect(gateway.stdout).toContain('The embedded Temporal server ended unexpectedly');
  });
});

describe('a mistake in the settings', () => {
  const occupied: Server[] = [];
  afterEach(() => {
    for (const server of occupied.splice(0)) server.close();
  });
  const occupy = async (port: string | undefined) => {
    const server = createServer();
    occupied.push(server);
    await new Promise<void>((done) => server.listen(Number(port), '127.0.0.1', done));
  };

  it.each([
    ['GATEWAY_PORT', 'GATEWAY_PORT'],
    ['GATEWAY_TEMPORAL_PORT', 'GATEWAY_TEMPORAL_PORT'],
    ['GATEWAY_TEMPORAL_UI_PORT', 'GATEWAY_TEMPORAL_UI_PORT'],
  ])('a port in use names %s', async (name, setting) => {
    await occupy(env[name]);
    const gateway = run(['start']);
    expect(await gateway.ended).toBe(1);
    expect(gateway.stderr).toContain(`Port ${env[name]} on 127.0.0.1 is in use. Set ${setting} to another port.`);
    expect(gateway.stderr).not.toMatch(/\n\s+at /);
    expect(existsSync(join(dir, 'data', 'holdfast.lock'))).toBe(false);
  });

  it('in gateway.yaml names file and line', async () => {
    writeFileSync(join(dir, 'gateway.yaml'), 'providers:\n  demo: { type: dmeo }\n');
    const gateway = run(['start'], { GATEWAY_CONFIG: 'gateway.yaml' });
    expect(await gateway.ended).toBe(1);
    expect(gateway.stderr).toMatch(/gateway\.yaml:2: providers\.demo\.type: /);
  });

  it('in the environment or .env names the variable', async () => {
    writeFileSync(join(dir, '.env'), 'GATEWAY_LOG_LEVEL=loud\n');
    const gateway = run(['start']);
    expect(await gateway.ended).toBe(1);
    expect(gateway.stderr).toContain('Environment: GATEWAY_LOG_LEVEL: ');
  });

  it.each([
    ['api', 'DATABASE_URL'],
    ['worker', 'DATABASE_URL'],
    ['migrate', 'DATABASE_URL'],
  ])('a %s without its parts names the first that is missing', async (command, variable) => {
    const gateway = run([command]);
    expect(await gateway.ended).toBe(1);
    expect(gateway.stderr).toContain(`${variable} is not set`);
  });
});

describe('holdfast keys create', () => {
  it('makes a key that works', async () => {
    const gateway = run(['start']);
    await gateway.says(/Try it:/);
    const options = '--name ci --team alpha --rpm 10 --cost-cap 1.5 --roles developer,approver';
    const created = run(['keys', 'create', ...options.split(' ')]);
    expect(await created.ended).toBe(0);
    const key = created.stdout.trim();
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'hi' }] }),
    });
    expect(response.status).toBe(200);
    const { body } = await get('/config/virtual-keys');
    expect(body.data).toMatchObject([
      { name: 'ci', team: 'alpha', rateLimit: { rpm: 10, tpm: null }, costCap: 1.5, roles: ['developer', 'approver'] },
    ]);
    const wrong = run(['keys', 'create', '--name', 'ci', '--rpm', 'many']);
    expect(await wrong.ended).toBe(1);
    expect(wrong.stderr).toContain("--rpm: 'many' is not a number");
  });

  it('says so when no gateway runs', async () => {
    const created = run(['keys', 'create', '--name', 'ci'], { GATEWAY_MASTER_KEY: 'sk-master-for-tests' });
    expect(await created.ended).toBe(1);
    expect(created.stderr).toContain('No gateway answers at');
  });
});
