import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createCipher } from '../../storage/cipher.ts';
import { Keyring } from '../../storage/postgres/keyring.ts';
import { AwsKeys } from '../support/aws-keys.ts';
import { onEveryDatabase, onRealPostgres, type TestDatabase } from '../support/databases.ts';

const hexKey = () => randomBytes(32).toString('hex');
const plain = Buffer.from('a secret');
const only = (current: string, ...previous: string[]) => ({ current, previous });

/** The suite has the table to itself; what other suites' gateways keep there comes back afterwards. */
function withEmptyTable(database: TestDatabase): void {
  let kept: { id: string; wrapped: Buffer; kek_id: string; created_at: Date }[] = [];
  const empty = () => database.db.deleteFrom('encryption_keys').execute();
  beforeAll(async () => {
    kept = await database.db.selectFrom('encryption_keys').selectAll().execute();
    await empty();
  });
  afterEach(empty);
  afterAll(async () => {
    if (kept.length > 0) await database.db.insertInto('encryption_keys').values(kept).execute();
  });
}

onEveryDatabase('the keyring', (database) => {
  withEmptyTable(database);
  const open = (current: string, ...previous: string[]) => Keyring.open(database.db, only(current, ...previous));
  const rows = () => database.db.selectFrom('encryption_keys').selectAll().orderBy('created_at').execute();

  it('seals what another process of the same encryption key opens, under a data key that is stored wrapped', async () => {
    const kek = hexKey();
    const one = await open(kek);
    const two = await open(kek);
    const sealed = one.encrypt(plain);
    expect(await two.decrypt(sealed)).toEqual(plain);
    expect(two.fingerprint(plain)).toBe(one.fingerprint(plain));
    expect(sealed.includes(plain)).toBe(false);
    expect(await rows()).toHaveLength(1);
    expect(() => createCipher(kek).decrypt(sealed)).toThrow();
  });

  it('refuses data of which a byte was changed', async () => {
    const keyring = await open(hexKey());
    const sealed = keyring.encrypt(plain);
    for (let i = 0; i < sealed.length; i += 1) {
      const changed = Buffer.from(sealed);
      changed[i] = (changed[i] ?? 0) ^ 1;
      await expect((async () => keyring.decrypt(changed))()).rejects.toThrow();
    }
  });

  it('does not start with another encryption key, and says what to set', async () => {
    await open(hexKey());
    await expect(open(hexKey())).rejects.toThrow(/GATEWAY_ENCRYPTION_KEYS_PREVIOUS/);
  });

  it('goes on with a previous encryption key until it is rotated, and without it afterwards', async () => {
    const [before, after] = [hexKey(), hexKey()];
    const sealed = (await open(before)).encrypt(plain);
    const between = await open(after, before);
    expect(await between.decrypt(sealed)).toEqual(plain);
    expect(await between.rotate()).toEqual({ rewrapped: 1 });
    const rotated = await open(after);
    expect(await rotated.decrypt(sealed)).toEqual(plain);
    await expect(open(before)).rejects.toThrow();
  });

  it('seals with the newest data key, which running processes learn of when they meet it', async () => {
    const kek = hexKey();
    const running = await open(kek);
    await (await open(kek)).rotate();
    const started = await open(kek);
    const sealed = started.encrypt(plain);
    const [first, second] = await rows();
    expect(sealed.subarray(1, 9).toString('hex')).toBe(second?.id);
    expect(running.encrypt(plain).subarray(1, 9).toString('hex')).toBe(first?.id);
    expect(await running.decrypt(sealed)).toEqual(plain);
  });

  it('opens what was sealed by an encryption key itself, current or previous', async () => {
    const [before, after] = [hexKey(), hexKey()];
    const keyring = await open(after, before);
    for (const key of [before, after]) {
      expect(await keyring.decrypt(createCipher(key).encrypt(plain))).toEqual(plain);
    }
    await expect((async () => keyring.decrypt(createCipher(hexKey()).encrypt(plain)))()).rejects.toThrow(
      /any encryption/,
    );
  });

  describe('with AWS', () => {
    const aws = new AwsKeys();
    beforeAll(() => aws.start());
    afterAll(() => aws.stop());

    it('has its data keys wrapped by KMS, and moves to another KMS key', async () => {
      aws.createKey('alias/one');
      aws.createKey('alias/two');
      const keyring = await open('aws-kms:alias/one');
      const sealed = keyring.encrypt(plain);
      expect((await rows())[0]).toMatchObject({ kek_id: 'aws-kms:alias/one' });
      aws.server.reset();
      expect(await keyring.decrypt(sealed)).toEqual(plain);
      expect(aws.server.received).toHaveLength(0);
      await (await open('aws-kms:alias/two', 'aws-kms:alias/one')).rotate();
      expect(await (await open('aws-kms:alias/two')).decrypt(sealed)).toEqual(plain);
    });

    it('moves from a key of the environment to KMS', async () => {
      aws.createKey('alias/three');
      const kek = hexKey();
      const sealed = (await open(kek)).encrypt(plain);
      await (await open('aws-kms:alias/three', kek)).rotate();
      expect(await (await open('aws-kms:alias/three')).decrypt(sealed)).toEqual(plain);
    });

    it('takes its key from Secrets Manager', async () => {
      const kek = hexKey();
      aws.secrets.set('holdfast/key', `${kek}\n`);
      const sealed = (await open('aws-secretsmanager:holdfast/key')).encrypt(plain);
      expect(await (await open(kek)).decrypt(sealed)).toEqual(plain);
    });

    it('says which service did not give a key', async () => {
      await expect(open('aws-kms:alias/none')).rejects.toThrow(/AWS KMS .*NotFoundException/);
      await expect(open('aws-secretsmanager:none')).rejects.toThrow(/AWS Secrets Manager/);
      aws.secrets.set('short', 'abc');
      await expect(open('aws-secretsmanager:short')).rejects.toThrow(/does not hold 32 bytes/);
    });
  });
});

onRealPostgres('the first data key', (database) => {
  withEmptyTable(database);

  it('is made once, however many processes start at once', async () => {
    const kek = hexKey();
    const rings = await Promise.all(Array.from({ length: 8 }, () => Keyring.open(database.db, only(kek))));
    expect(new Set(rings.map((ring) => ring.fingerprint(plain))).size).toBe(1);
    expect(await database.db.selectFrom('encryption_keys').selectAll().execute()).toHaveLength(1);
  });
});
