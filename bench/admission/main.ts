import { Redis } from 'ioredis';
import { sql } from 'kysely';
import { newId } from '../../domain/ids.ts';
import { limitName, type RateLimit } from '../../domain/rate-limit.ts';
import { createCipher } from '../../storage/cipher.ts';
import { RedisCounters } from '../../storage/counters/redis.ts';
import { Bodies } from '../../storage/postgres/bodies.ts';
import { connectDatabase, migrate } from '../../storage/postgres/database.ts';
import { Policies } from '../../storage/postgres/policies.ts';
import { Requests } from '../../storage/postgres/requests.ts';
import { Reservations } from '../../storage/postgres/reservations.ts';
import { settle } from '../../storage/postgres/settlement.ts';
import { VirtualKeys } from '../../storage/postgres/virtual-keys.ts';
import { percentile } from '../overhead/load.ts';
import { grow, KEYS, TEAMS, tokenOf, vacuum } from './population.ts';

// What it costs to let a request in, on real Postgres and Redis, as keys and ledger grow: the key looked up (nothing is
// cached here, as in a gateway that sees a key for the first time in a second), what applies to it, its rate limits,
// and its reservation in three budgets. Beside it, as the measure of all: one round trip to Postgres and one to Redis.
// usage: node dist/bench/admission/main.js <postgres url> <redis url> <ledger rows>…

const [databaseUrl, redisUrl, ...steps] = process.argv.slice(2);
if (!databaseUrl || !redisUrl || steps.length === 0)
  throw new Error('usage: main.js <postgres url> <redis url> <rows>…');

const CALLERS = 2_000;
const ROUNDS = 4_000;
const CONNECTIONS = [1, 10];

const db = connectDatabase({ url: databaseUrl, maxConnections: 10, onError: () => {} });
const redis = new Redis(redisUrl);
await migrate(db);
const virtualKeys = new VirtualKeys(db);
const requests = new Requests(db);
const reservations = new Reservations(db);
const policies = new Policies(db);
const counters = new RedisCounters(redis);
const bodies = new Bodies(db, createCipher('a1'.repeat(32)));

type Timings = Record<
  'auth' | 'policy' | 'limits' | 'reserve' | 'admission' | 'accept' | 'settle' | 'postgres' | 'redis',
  number[]
>;
const noTimings = (): Timings => ({
  auth: [],
  policy: [],
  limits: [],
  reserve: [],
  admission: [],
  accept: [],
  settle: [],
  postgres: [],
  redis: [],
});

async function timed<T>(into: number[], work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await work();
  into.push(performance.now() - started);
  return result;
}

/** One request from its key to its settlement. */
async function once(caller: number, timings: Timings): Promise<void> {
  const { auth, policy, limits, reserve, admission, accept, settle: settling, postgres, redis: ping } = timings;
  await timed(postgres, () => sql`SELECT 1`.execute(db));
  await timed(ping, () => redis.ping());
  const key = await timed(auth, () => virtualKeys.findByKey(tokenOf(caller)));
  if (!key) throw new Error('The key is not there.');
  const who = { keyId: key.id, team: key.team, project: null, user: null };
  const id = newId('chatcmpl');
  // The id is no model, but nothing is remembered under it.
  const applied = await timed(policy, () => policies.of(who, ['gpt-5-mini', id]));
  await timed(accept, () =>
    requests.insert({
      id,
      runId: id,
      requestId: id,
      acceptedAt: new Date(),
      owner: `team:${key.team}`,
      attribution: { ...who, organisation: applied.organisation },
      feature: null,
      markupPercent: 0,
      surface: 'chat.completions',
      modelRequested: 'gpt-5-mini',
      prompt: '',
      parameters: {},
      body: bodies.seal({ messages: [{ role: 'user', content: id }] }),
    }),
  );
  const wanted = applied.limits.flatMap(({ scope, id: limited, requestsPerMinute, tokensPerMinute }): RateLimit[] => [
    {
      name: limitName({ type: scope, id: limited } as never, 'requests'),
      kind: 'requests',
      limit: requestsPerMinute ?? 1,
      cost: 1,
    },
    {
      name: limitName({ type: scope, id: limited } as never, 'tokens'),
      kind: 'tokens',
      limit: tokensPerMinute ?? 1,
      cost: 50,
    },
  ]);
  const options = { leaseMs: 60_000, priority: 'interactive', waits: false } as const;
  const admitted = await timed(limits, () => counters.admit(id, wanted, options));
  if (!admitted.admitted) throw new Error('The limits are too tight for this bench.');
  const reserved = await timed(reserve, () =>
    reservations.reserve({ requestId: id, nanos: 1_000, priceVersion: 'bench' }),
  );
  if (!reserved.reserved) throw new Error('The budgets are too tight for this bench.');
  admission.push([auth, policy, limits, reserve].reduce((sum, list) => sum + (list.at(-1) ?? 0), 0));
  await timed(settling, () => settle(db, { requestId: id, state: 'completed' }));
  await counters.release(id, wanted, 0);
}

const pick = (): number => Math.floor(Math.random() * CALLERS) * Math.floor(KEYS / CALLERS);
const ms = (values: number[], p: number): string =>
  percentile(
    values.sort((a, b) => a - b),
    p,
  ).toFixed(2);

console.log(`${KEYS} keys, ${TEAMS} teams; a hard budget and limits for each key, team and organisation`);
console.log('| ledger rows | connections | step | p50 ms | p95 ms | p99 ms | × postgres round trip |');
console.log('| --- | --- | --- | --- | --- | --- | --- |');
for (const rows of steps.map(Number)) {
  await grow(db, rows, (line) => process.stderr.write(`${line}\n`));
  await vacuum(databaseUrl);
  // The first request of a key's month also makes its counters.
  for (let caller = 0; caller < CALLERS; caller += 1) await once(caller * Math.floor(KEYS / CALLERS), noTimings());
  await vacuum(databaseUrl);
  for (const connections of CONNECTIONS) {
    const timings = noTimings();
    await Promise.all(
      Array.from({ length: connections }, async () => {
        for (let i = 0; i < ROUNDS / connections; i += 1) await once(pick(), timings);
      }),
    );
    const trip = Number(ms(timings.postgres, 0.5));
    for (const [step, values] of Object.entries(timings)) {
      const p50 = ms(values, 0.5);
      const ratio = (Number(p50) / trip).toFixed(1);
      console.log(
        `| ${rows} | ${connections} | ${step} | ${p50} | ${ms(values, 0.95)} | ${ms(values, 0.99)} | ${ratio} |`,
      );
    }
  }
  const { used_memory_human: memory } = Object.fromEntries(
    (await redis.info('memory')).split('\r\n').map((line) => line.split(':') as [string, string]),
  );
  console.log(`  Redis holds ${memory}; this process ${Math.round(process.memoryUsage().rss / 1024 / 1024)} MB`);
}
redis.disconnect();
await db.destroy();
