import { expect, it } from 'vitest';
import { createCipher } from '../../storage/cipher.ts';
import { type NewProviderKey, ProviderKeys } from '../../storage/postgres/provider-keys.ts';
import { VirtualKeys } from '../../storage/postgres/virtual-keys.ts';
import { ENCRYPTION_KEY, KEY_SETTINGS, onEveryDatabase } from '../support/databases.ts';
import { eventually } from '../support/gateway.ts';

onEveryDatabase('provider keys', (database) => {
  const keys = () => new ProviderKeys(database.db, createCipher(ENCRYPTION_KEY));
  const newProvider = () => `p-${crypto.randomUUID()}`;
  const keyOf = (provider: string, overrides: Partial<NewProviderKey> = {}): NewProviderKey => ({
    provider,
    region: null,
    team: null,
    virtualKeyId: null,
    weight: 1,
    secret: `sk-planted-${provider}`,
    hint: 'abcd',
    ...overrides,
  });
  const virtualKey = async () => (await new VirtualKeys(database.db).create(KEY_SETTINGS)).entity.id;

  it('are stored sealed, shown without themselves, and opened for calls', async () => {
    const provider = newProvider();
    const made = await keys().create(keyOf(provider, { region: 'eu-west-1', team: 'alpha', weight: 3 }));
    expect(made).toEqual({
      id: expect.stringMatching(/^pk-/),
      provider,
      region: 'eu-west-1',
      team: 'alpha',
      virtualKeyId: null,
      weight: 3,
      hint: 'abcd',
      state: 'active',
      benchedUntil: null,
      benchReason: null,
      createdAt: expect.any(Date),
    });
    expect((await keys().list()).filter((key) => key.provider === provider)).toEqual([made]);
    const row = await database.db.selectFrom('provider_keys').selectAll().where('id', '=', made.id).execute();
    expect(row[0]?.sealed.includes('planted')).toBe(false);
    const [usable] = await keys().usable(provider);
    expect(usable).toMatchObject({ id: made.id, revision: 1, weight: 3, benchedForMs: 0 });
    expect(await keys().open(usable as never)).toBe(`sk-planted-${provider}`);
  });

  it('are changed in place, which counts their revision only when the key itself is another', async () => {
    const provider = newProvider();
    const { id } = await keys().create(keyOf(provider));
    expect(await keys().update(provider, id, { weight: 7, team: 'beta' })).toMatchObject({ weight: 7, team: 'beta' });
    expect(await keys().usable(provider)).toMatchObject([{ revision: 1, weight: 7 }]);
    await keys().update(provider, id, { secret: 'sk-next', hint: 'next' });
    const [usable] = await keys().usable(provider);
    expect(usable).toMatchObject({ revision: 2, weight: 7, team: 'beta' });
    expect(await keys().open(usable as never)).toBe('sk-next');
    expect(await keys().update(newProvider(), id, { weight: 1 })).toBeUndefined();
  });

  it('are not usable while disabled, and gone when removed', async () => {
    const provider = newProvider();
    const { id } = await keys().create(keyOf(provider));
    await keys().update(provider, id, { state: 'disabled' });
    expect(await keys().usable(provider)).toEqual([]);
    expect(await keys().remove(newProvider(), id)).toBe(false);
    expect(await keys().remove(provider, id)).toBe(true);
    expect(await keys().remove(provider, id)).toBe(false);
  });

  it('are benched until the time is over', async () => {
    const provider = newProvider();
    const { id } = await keys().create(keyOf(provider));
    expect(await keys().bench(id, 1, 60_000, 'provider_auth')).toBe(true);
    const [benched] = await keys().usable(provider);
    expect(benched).toMatchObject({ benchReason: 'provider_auth', benchedForMs: expect.closeTo(60_000, -4) });
    await keys().bench(id, 1, 50, 'provider_rate_limited');
    await eventually(async () => (await keys().usable(provider))[0]?.benchedForMs === 0);
  });

  it('leave the bench with a new key or state, and are not benched for what an earlier key did', async () => {
    const provider = newProvider();
    const { id } = await keys().create(keyOf(provider));
    for (const change of [{ secret: 'sk-next', hint: 'next' }, { state: 'active' as const }]) {
      const [{ revision } = { revision: 0 }] = await keys().usable(provider);
      await keys().bench(id, revision, 60_000, 'provider_auth');
      await keys().update(provider, id, { weight: 2 });
      expect((await keys().usable(provider))[0]?.benchedForMs).toBeGreaterThan(0);
      expect(await keys().update(provider, id, change)).toMatchObject({ benchedUntil: null, benchReason: null });
    }
    expect(await keys().bench(id, 1, 60_000, 'provider_auth')).toBe(false);
    expect((await keys().usable(provider))[0]?.benchedForMs).toBe(0);
  });

  it('of a virtual key are replaced as a whole and go with it', async () => {
    const [one, two, provider, other] = [await virtualKey(), await virtualKey(), newProvider(), newProvider()];
    const mapped = (name: string, secret: string) => ({ provider: name, secret, hint: secret.slice(-4) });
    await keys().replaceForVirtualKey(one, [mapped(provider, 'sk-first-1111'), mapped(other, 'sk-other-2222')]);
    await keys().replaceForVirtualKey(two, [mapped(provider, 'sk-stays-4444')]);
    await keys().replaceForVirtualKey(one, [mapped(provider, 'sk-third-3333')]);
    expect(await keys().mappedTo([one, two, 'vk-none'])).toEqual(
      new Map([
        [one, [{ provider, hint: '3333' }]],
        [two, [{ provider, hint: '4444' }]],
        ['vk-none', []],
      ]),
    );
    await new VirtualKeys(database.db).remove(two);
    expect((await keys().usable(provider)).map((key) => key.virtualKeyId)).toEqual([one]);
    await keys().replaceForVirtualKey(one, []);
    expect(await keys().usable(provider)).toEqual([]);
    expect(await keys().mappedTo([])).toEqual(new Map());
  });
});
