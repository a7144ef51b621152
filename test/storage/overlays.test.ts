import { afterAll, expect, it } from 'vitest';
import { Overlays } from '../../storage/postgres/overlays.ts';
import { onEveryDatabase } from '../support/databases.ts';

onEveryDatabase('stored models, routing and settings', (database) => {
  const id = `m-${crypto.randomUUID()}`;
  afterAll(async () => {
    await new Overlays(database.db).removeModel(id);
    await new Overlays(database.db).put('policy', null);
    await new Overlays(database.db).put('settings', null);
  });

  it('are read once after each change', async () => {
    const overlays = new Overlays(database.db);
    const first = await overlays.read(undefined);
    expect(await overlays.read(first?.version)).toBeUndefined();

    await overlays.putModel(id, { some: 'entry' });
    const second = await overlays.read(first?.version);
    expect(second?.models).toContainEqual({
      id,
      entry: { some: 'entry' },
      updated: new Date().toISOString().slice(0, 10),
    });
    await overlays.putModel(id, { some: 'other' });
    const third = await overlays.read(second?.version);
    expect(third?.models.find((model) => model.id === id)?.entry).toEqual({ some: 'other' });

    await overlays.put('policy', { default_provider: 'p' });
    const fourth = await overlays.read(third?.version);
    expect(fourth?.policy).toEqual({ default_provider: 'p' });
    await overlays.put('settings', { retry: { retry_delay: 2 } });
    await overlays.put('policy', null);
    const fifth = await overlays.read(fourth?.version);
    expect(fifth).toMatchObject({ policy: null, settings: { retry: { retry_delay: 2 } } });

    expect(await overlays.removeModel(id)).toBe(true);
    expect(await overlays.removeModel(id)).toBe(false);
    const last = await overlays.read(fifth?.version);
    expect(last?.models.some((model) => model.id === id)).toBe(false);
  });
});
