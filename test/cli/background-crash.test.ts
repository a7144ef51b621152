import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import type { ResponseStreamEvent } from 'openai/resources/responses/responses';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../../embedded/ports.ts';
import { identify } from '../../embedded/process-identity.ts';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, type Json } from '../support/gateway.ts';
import { HoldfastProcess } from '../support/process.ts';
import { openaiStream } from '../support/shapes.ts';

const RESPONSES = 10;
const WORDS = Array.from({ length: 40 }, (_, n) => `word${n} `);

describe('background responses of a gateway that is killed', () => {
  const upstream = new FixtureServer();
  const processes: HoldfastProcess[] = [];
  let dir: string;
  let env: Record<string, string>;
  let url: string;

  beforeAll(async () => {
    await upstream.start();
    dir = mkdtempSync(join(tmpdir(), 'holdfast-crash-'));
    writeFileSync(
      join(dir, 'gateway.yaml'),
      `providers:\n  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: sk-up, default_model: gpt-5-mini }\n`,
    );
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    env = {
      GATEWAY_CONFIG: 'gateway.yaml',
      GATEWAY_DATA_DIR: join(dir, 'data'),
      GATEWAY_PORT: String(port),
      GATEWAY_TEMPORAL_PORT: String(await freePort()),
      GATEWAY_TEMPORAL_UI_PORT: String(await freePort()),
    };
  });
  afterAll(async () => {
    for (const started of processes) await started.kill('SIGKILL');
    for (const name of ['temporal', 'postgres']) {
      const { pid } = JSON.parse(readFileSync(join(dir, 'data', `${name}.pid`), 'utf8'));
      if (identify(pid) !== undefined) process.kill(pid, 'SIGKILL');
      await eventually(async () => identify(pid) === undefined);
    }
    await upstream.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  const start = async () => {
    const gateway = new HoldfastProcess(['start'], env, dir);
    processes.push(gateway);
    await gateway.says(/Try it:/);
    const { masterKey } = JSON.parse(readFileSync(join(dir, 'data', 'secrets.json'), 'utf8'));
    return { gateway, client: new OpenAI({ apiKey: masterKey, baseURL: `${url}/v1`, maxRetries: 0 }) };
  };
  const replay = async (client: OpenAI, id: string, after?: number) => {
    const events: ResponseStreamEvent[] = [];
    const query = { stream: true as const, ...(after !== undefined && { starting_after: after }) };
    for await (const event of await client.responses.retrieve(id, query)) events.push(event);
    return events;
  };

  it('all complete; streams go on after the last event that was seen, and every call is accounted for', async () => {
    upstream.reply = () => ({ chunks: openaiStream(WORDS), intervalMs: 100 });
    const { gateway, client } = await start();
    const seen = await Promise.all(
      Array.from({ length: RESPONSES }, async (_, n) => {
        const input = `Tell me story ${n}`;
        const stream = await client.responses.create({ model: 'gpt-5-mini', input, background: true, stream: true });
        const events: ResponseStreamEvent[] = [];
        const reading = (async () => {
          for await (const event of stream) events.push(event);
        })().catch(() => {});
        await eventually(async () => events.some(({ type }) => type === 'response.output_text.delta'));
        return { events, reading };
      }),
    );
    await gateway.kill('SIGKILL');
    await Promise.all(seen.map(({ reading }) => reading));

    const again = (await start()).client;
    await Promise.all(
      seen.map(async ({ events }) => {
        const id = (events[0] as { response: { id: string } }).response.id;
        const last = events.at(-1)?.sequence_number ?? 0;
        const rest = await replay(again, id, last);
        const whole = await replay(again, id);
        expect([...events, ...rest]).toEqual(whole);
        expect(whole.map(({ sequence_number }) => sequence_number)).toEqual(whole.map((_, index) => index));
        const items = whole.filter((event) => event.type === 'response.output_item.done');
        expect(items.map(({ item }) => 'status' in item && item.status)).toEqual(['incomplete', 'completed']);
        const response = await again.responses.retrieve(id);
        expect(response).toMatchObject({ status: 'completed', output_text: WORDS.join('') });
        expect(response.output).toHaveLength(1);
      }),
    );

    const rows = await ledger(again);
    const attempts = rows.flatMap((row: Json) => row.attempts);
    const unknown = attempts.filter(({ state }: Json) => state === 'unknown');
    expect(rows.map(({ state }: Json) => state)).toEqual(Array(RESPONSES).fill('completed'));
    expect(attempts.length - upstream.count(/chat\/completions/)).toBeLessThanOrEqual(unknown.length);
    expect(attempts.length).toBeGreaterThanOrEqual(upstream.count(/chat\/completions/));
    expect(attempts.filter(({ state }: Json) => state === 'succeeded')).toHaveLength(RESPONSES);
    expect(unknown).toHaveLength(RESPONSES);
  });

  const ledger = async ({ apiKey }: OpenAI): Promise<Json[]> => {
    const response = await fetch(`${url}/logs?limit=50`, { headers: { authorization: `Bearer ${apiKey}` } });
    return ((await response.json()) as Json).data;
  };
});
