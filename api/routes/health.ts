import { z } from 'zod';
import { HoldfastError } from '../../domain/errors.ts';
import { pingDatabase } from '../../storage/postgres/database.ts';
import type { ApiDeps } from '../context.ts';
import type { Routes } from './route.ts';

/** Milliseconds a probe may take. */
const PROBE_TIMEOUT_MS = 5_000;
/** Milliseconds a result is reused: /health is public and must not become a lever against the providers. */
const PROBE_TTL_MS = 10_000;

const component = z.object({
  status: z.enum(['healthy', 'unhealthy']),
  latency_ms: z.number(),
  error: z.string().optional(),
});
type Component = z.infer<typeof component>;

const providerHealth = component.extend({ model: z.string().optional(), region: z.string().optional() });

export const health: Routes = async (app, deps) => {
  const check = reuse(() => checkAll(deps), PROBE_TTL_MS);

  const schema = {
    summary: 'Health of every provider and part',
    tags: ['status'],
    response: {
      200: z.object({
        status: z.enum(['healthy', 'degraded', 'unhealthy']),
        providers: z.record(z.string(), providerHealth),
        temporal: component,
        postgres: component,
        redis: component.extend({ embedded: z.boolean() }),
        /** Seconds since the epoch. */
        timestamp: z.number(),
      }),
    },
  };
  app.get('/health', { config: { access: 'public' }, schema }, () => check());

  const live = {
    summary: 'The process is alive',
    tags: ['status'],
    response: { 200: z.object({ status: z.literal('alive') }) },
  };
  app.get('/health/live', { config: { access: 'public' }, schema: live }, () => ({ status: 'alive' as const }));

  const ready = {
    summary: 'The process takes requests',
    tags: ['status'],
    response: { 200: z.object({ status: z.literal('ready') }) },
  };
  app.get('/health/ready', { config: { access: 'public' }, schema: ready }, async () => {
    if (!deps.isReady()) throw new HoldfastError('gateway_unavailable', 'The gateway is starting or stopping.');
    const [temporal, postgres] = await Promise.all([
      measure(() => deps.runs.ping()),
      measure(() => pingDatabase(deps.db)),
    ]);
    if (temporal.status === 'unhealthy') throw new HoldfastError('gateway_unavailable', 'Temporal cannot be reached.');
    if (postgres.status === 'unhealthy') throw new HoldfastError('gateway_unavailable', 'Postgres cannot be reached.');
    return { status: 'ready' as const };
  });
};

async function checkAll({ providers, credentials, runs, db, streams, redis: mode }: ApiDeps) {
  const probes = [...providers.values()].map(async (adapter) => {
    const result = await measure(async (signal) => adapter.probe(signal, await credentials.forProbe(adapter)));
    const place = adapter.region
      ? { region: adapter.region }
      : { ...(adapter.defaultModel && { model: adapter.defaultModel }) };
    return [adapter.name, { ...result, ...place }] as const;
  });
  const [temporal, postgres, redis, ...probed] = await Promise.all([
    measure(() => runs.ping()),
    measure(() => pingDatabase(db)),
    measure(() => streams.ping()),
    ...probes,
  ]);
  const usable = probed.filter(([, { status }]) => status === 'healthy').length;
  const parts = [temporal, postgres].every(({ status }) => status === 'healthy');
  const all = parts && redis.status === 'healthy' && usable === probed.length;
  return {
    status: all ? ('healthy' as const) : parts && usable > 0 ? ('degraded' as const) : ('unhealthy' as const),
    providers: Object.fromEntries(probed),
    temporal,
    postgres,
    redis: { ...redis, embedded: mode === 'embedded' },
    timestamp: Date.now() / 1000,
  };
}

async function measure(probe: (signal: AbortSignal) => Promise<void>): Promise<Component> {
  const started = performance.now();
  const signal = AbortSignal.timeout(PROBE_TIMEOUT_MS);
  const latency = () => Math.round((performance.now() - started) * 100) / 100;
  try {
    await Promise.race([probe(signal), aborted(signal)]);
    return { status: 'healthy', latency_ms: latency() };
  } catch (error) {
    const reason = error instanceof HoldfastError ? error.code : signal.aborted ? 'timeout' : 'unreachable';
    return { status: 'unhealthy', latency_ms: latency(), error: reason };
  }
}

const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));

/** Shares one run of `work` between callers, and its result for `ttlMs`. */
function reuse<T>(work: () => Promise<T>, ttlMs: number): () => Promise<T> {
  let last: { readonly at: number; readonly result: Promise<T> } | undefined;
  return () => {
    if (!last || Date.now() - last.at > ttlMs) last = { at: Date.now(), result: work() };
    return last.result;
  };
}
