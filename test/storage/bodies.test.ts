import { describe, expect, it } from 'vitest';
import { createCipher } from '../../storage/cipher.ts';
import { Bodies } from '../../storage/postgres/bodies.ts';
import { ENCRYPTION_KEY, insertRequest, onEveryDatabase } from '../support/databases.ts';

describe('the cipher', () => {
  const cipher = createCipher(ENCRYPTION_KEY);

  it('gives back what it was given, and never the same bytes twice', () => {
    const plain = Buffer.from('a secret');
    const [one, two] = [cipher.encrypt(plain), cipher.encrypt(plain)];
    expect(cipher.decrypt(one)).toEqual(plain);
    expect(one).not.toEqual(two);
    expect(one.includes(plain)).toBe(false);
  });

  it('refuses changed data and another key’s', () => {
    const sealed = cipher.encrypt(Buffer.from('a secret'));
    const other = createCipher('b2'.repeat(32));
    expect(() => other.decrypt(sealed)).toThrow();
    for (let i = 0; i < sealed.length; i += 1) {
      const changed = Buffer.from(sealed);
      changed[i] = (changed[i] ?? 0) ^ 1;
      expect(() => cipher.decrypt(changed)).toThrow();
    }
  });

  it('makes fingerprints that only its key can make', () => {
    const plain = Buffer.from('x');
    expect(cipher.fingerprint(plain)).toBe(cipher.fingerprint(plain));
    expect(cipher.fingerprint(plain)).not.toBe(createCipher('b2'.repeat(32)).fingerprint(plain));
  });
});

onEveryDatabase('bodies', (database) => {
  it('are stored once by content, encrypted', async () => {
    const bodies = () => new Bodies(database.db, createCipher(ENCRYPTION_KEY));
    const value = { messages: [{ role: 'user', content: `secret ${crypto.randomUUID()}` }] };
    const body = bodies().seal(value);
    await insertRequest(database.db, { body });
    await insertRequest(database.db, { body: bodies().seal(value) });
    const rows = await database.db.selectFrom('bodies').selectAll().where('ref', '=', body.ref).execute();
    expect(rows).toHaveLength(1);
    expect(rows[0]?.content.includes('secret')).toBe(false);
    expect(await bodies().get(body.ref)).toEqual(value);
    expect(await bodies().get('nothing')).toBeUndefined();
  });
});
