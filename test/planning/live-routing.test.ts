import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../config/load.ts';
import { loadSettings } from '../../config/settings.ts';
import { LiveRouting } from '../../planning/live-routing.ts';
import { createProviders } from '../../providers/registry.ts';
import type { Overlay } from '../../storage/postgres/overlays.ts';
import { eventually } from '../support/gateway.ts';

const config = loadConfig(loadSettings({}), {});
const entry = (input: number) => ({
  context_window: 1,
  max_output_tokens: 1,
  price: { input, output: 1 },
  vendors: { demo: 'stored' },
});
const overlay = (version: number, changes: Partial<Overlay> = {}): Overlay => ({
  version,
  models: [],
  policy: null,
  settings: null,
  ...changes,
});
const stored = (input: number) => [{ id: 'stored', entry: entry(input), updated: '2999-01-01' }];

let live: LiveRouting | undefined;
afterEach(() => live?.stop());

/** @param read What the database says; it may be away. */
async function start(read: (known: number | undefined) => Promise<Overlay | undefined>): Promise<LiveRouting> {
  const logger = pino({ level: 'silent' });
  live = new LiveRouting({ config, providers: createProviders(config.providers), overlays: { read }, logger });
  await live.start();
  return live;
}

describe('live routing', () => {
  it('lays stored models and routing over the files', async () => {
    const policy = { models: { mine: [{ provider: 'demo', model: 'stored' }] } };
    const { table } = await start(async () => overlay(1, { models: stored(3), policy }));
    expect(table.catalogue.find('stored')?.source).toBe('stored');
    expect(table.catalogue.find('demo')?.source).toBe('built_in');
    expect(table.catalogue.priceDate).toBe('2999-01-01');
    expect([...table.aliases.keys()]).toEqual(['mine']);
    expect(table.fallback.order).toEqual(config.gateway.fallback.fallback_order);
  });

  it('lays stored settings over gateway.yaml, section by section', async () => {
    const { settings, stored } = await start(async () => overlay(1, { settings: { rate_limit: { enabled: true } } }));
    expect(settings.rate_limit).toMatchObject({ enabled: true, requests_per_minute: 60, when_unavailable: 'open' });
    expect(settings.retry).toEqual(config.gateway.retry);
    expect(Object.keys(stored.settings ?? {})).toEqual(['rate_limit']);
  });

  it('keeps the last table while the database is away, and goes on when it is back', async () => {
    let away = false;
    let asked = 0;
    let current = overlay(1, { models: stored(3) });
    const routing = await start(async (known) => {
      asked += 1;
      if (away) throw new Error('away');
      return known === current.version ? undefined : current;
    });
    const { table } = routing;
    away = true;
    current = overlay(2);
    await eventually(async () => asked >= 3);
    expect(routing.table).toBe(table);
    await expect(routing.refresh()).rejects.toThrow('away');
    away = false;
    await eventually(async () => routing.table !== table);
    expect(routing.table.catalogue.find('stored')).toBeUndefined();
  });

  it('leaves out what it cannot read', async () => {
    const models = [...stored(3), { id: 'odd', entry: { price: 'a lot' }, updated: '2026-01-01' }];
    const routing = await start(async () =>
      overlay(1, { models, policy: { fallback: 'perhaps' }, settings: { retry: 9 } }),
    );
    expect(routing.table.catalogue.find('odd')).toBeUndefined();
    expect(routing.table.catalogue.find('stored')).toBeDefined();
    expect(routing.stored).toEqual({ policy: null, settings: null });
    expect(routing.settings.retry).toEqual(config.gateway.retry);
  });
});
