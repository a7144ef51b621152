import { Client } from '@temporalio/client';
import type { WorkerDeploymentVersion } from '@temporalio/common';
import type { Worker } from '@temporalio/worker';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { publicAddresses } from '../activities/address-policy.ts';
import { createActivities } from '../activities/index.ts';
import { buildApp } from '../api/app.ts';
import { Entrance } from '../api/runs/entrance.ts';
import { TemporalReports } from '../api/runs/temporal-reports.ts';
import { TemporalRuns } from '../api/runs/temporal-runs.ts';
import { TemporalWebhooks } from '../api/runs/temporal-webhooks.ts';
import { BatchedCalls } from '../calls/batched-calls.ts';
import { CallStreams } from '../calls/call-streams.ts';
import { Calls } from '../calls/calls.ts';
import { Credentials } from '../calls/credentials.ts';
import { Lease } from '../calls/lease.ts';
import { ProviderBatchCalls } from '../calls/provider-batches.ts';
import { limitsOfProviders, ProviderBuckets } from '../calls/provider-buckets.ts';
import { Quota } from '../calls/quota.ts';
import type { LoadedConfig } from '../config/load.ts';
import { ConfigError } from '../config/yaml-source.ts';
import { newId } from '../domain/ids.ts';
import { LiveRouting } from '../planning/live-routing.ts';
import { createProviders } from '../providers/registry.ts';
import { Admissions } from '../storage/postgres/admissions.ts';
import { AgentMessages } from '../storage/postgres/agent-messages.ts';
import { Agents } from '../storage/postgres/agents.ts';
import { Approvals } from '../storage/postgres/approvals.ts';
import { Attempts } from '../storage/postgres/attempts.ts';
import { AuditLog } from '../storage/postgres/audit-log.ts';
import { BatchLines } from '../storage/postgres/batch-lines.ts';
import { Batches } from '../storage/postgres/batches.ts';
import { Bodies } from '../storage/postgres/bodies.ts';
import { Budgets } from '../storage/postgres/budgets.ts';
import { CostReports } from '../storage/postgres/cost-reports.ts';
import { Costs } from '../storage/postgres/costs.ts';
import { connectDatabase, migrate, pendingMigrations, type Sql } from '../storage/postgres/database.ts';
import { Files } from '../storage/postgres/files.ts';
import { Idempotency } from '../storage/postgres/idempotency.ts';
import { Keyring } from '../storage/postgres/keyring.ts';
import { Ledger } from '../storage/postgres/ledger.ts';
import { Overlays } from '../storage/postgres/overlays.ts';
import { Policies } from '../storage/postgres/policies.ts';
import { Processes } from '../storage/postgres/processes.ts';
import { ProviderBatchStore } from '../storage/postgres/provider-batches.ts';
import { ProviderKeys } from '../storage/postgres/provider-keys.ts';
import { RateLimits } from '../storage/postgres/rate-limits.ts';
import { Requests } from '../storage/postgres/requests.ts';
import { Reservations } from '../storage/postgres/reservations.ts';
import { Responses } from '../storage/postgres/responses.ts';
import { RunEvents } from '../storage/postgres/run-events.ts';
import { RunSteps } from '../storage/postgres/run-steps.ts';
import { Runs } from '../storage/postgres/runs.ts';
import { Tenants } from '../storage/postgres/tenants.ts';
import { VirtualKeys } from '../storage/postgres/virtual-keys.ts';
import { Webhooks } from '../storage/postgres/webhooks.ts';
import { JournalledStreamLog } from '../storage/streams/journalled.ts';
import { connectTemporal } from '../workers/connection.ts';
import { makeCurrent } from '../workers/deployment.ts';
import { gather } from '../workers/gather.ts';
import { presenceOf } from '../workers/presence.ts';
import { runTogether, stopWorkers } from '../workers/run-together.ts';
import { ensureSchedules } from '../workers/schedules.ts';
import { createBackgroundWorker, createInteractiveWorker, workflowBundle } from '../workers/worker.ts';
import { prepareDrain } from './drain.ts';
import { openSharedState } from './shared-state.ts';
import { loadTls } from './tls.ts';
import { readVersion } from './version.ts';

export interface GatewayOptions {
  readonly config: LoadedConfig;
  readonly env: NodeJS.ProcessEnv;
  readonly logger: Logger;
  /** A `postgres://` URL or the socket directory of a local server. */
  readonly databaseUrl: string;
  readonly databasePool: number;
  /** What to do with a schema older than this code; that of shared parts is left to `holdfast migrate`. */
  readonly oldSchema: 'migrate' | 'refuse';
  /** undefined keeps streams and counters in this process. */
  readonly redisUrl: string | undefined;
  readonly temporalAddress: string;
  readonly taskQueue: string;
  /** The version of a worker deployment that this process is of, if workers are versioned. */
  readonly workerVersion: WorkerDeploymentVersion | undefined;
  readonly masterKey: string;
  readonly encryptionKey: string;
  readonly previousEncryptionKeys: readonly string[];
  /** Which halves of the gateway this process is. */
  readonly roles: { readonly api: boolean; readonly worker: boolean };
}

export interface Gateway {
  /** The front door, not yet listening; undefined in a worker process. */
  readonly app: FastifyInstance | undefined;
  /** Rejects when the worker breaks; pending while all is well. */
  readonly broken: Promise<never>;
  /** Finishes what runs, for `shutdown_grace` at most, then closes everything. */
  stop(): Promise<void>;
}

/**
 * Measured with 500 connections on two cores: requests let in at once beyond this only wait inside, until their workflow
 * tasks time out and are made again.
 */
const ENTRANCE_WIDTH = 32;
const ENTRANCE_PATIENCE_MS = 30_000;

/** Wires a gateway process together. The only place that knows every part. */
export async function createGateway(options: GatewayOptions): Promise<Gateway> {
  const { config, logger, roles } = options;
  const graceMs = config.gateway.server.shutdown_grace * 1000;
  const closers: (() => Promise<unknown> | unknown)[] = [];
  const close = async () => {
    for (const closer of closers.reverse()) {
      await Promise.resolve(closer()).catch((error: unknown) => logger.warn({ err: error }, 'A part did not close'));
    }
  };

  try {
    const onError = (error: Error) => logger.warn({ err: error }, 'A connection was lost');
    const db = connectDatabase({ url: options.databaseUrl, maxConnections: options.databasePool, onError });
    closers.push(() => db.destroy());
    await (options.oldSchema === 'migrate' ? migrate(db) : requireSchema(db));
    const { streams, counters, buckets } = await openSharedState(options.redisUrl, onError, closers);
    const temporal = await connectTemporal(options.temporalAddress, options.env, logger);
    closers.push(() => temporal.connection.close());

    const version = readVersion();
    const buildId = `holdfast-${version}`;
    const providers = createProviders(config.providers);
    const budgetWebhook = config.gateway.budgets.webhook;
    const keks = { current: options.encryptionKey, previous: options.previousEncryptionKeys };
    const cipher = await Keyring.open(db, keks);
    const bodies = new Bodies(db, cipher);
    const files = new Files(db, cipher);
    const batches = new Batches(db);
    const providerBatches = new ProviderBatchStore(db);
    const requests = new Requests(db);
    const policies = new Policies(db);
    const providerKeys = new ProviderKeys(db, cipher);
    const credentials = new Credentials({ providerKeys, logger });
    const processId = newId('proc');
    const attempts = new Attempts(db);
    const reservations = new Reservations(db);
    const admissions = new Admissions(db);
    const costs = new Costs(db);
    const costReports = new CostReports(db);
    const runEvents = new RunEvents(db, cipher);
    const runs = new Runs(db, runEvents);
    const agents = new Agents(db, cipher);
    const virtualKeys = new VirtualKeys(db);
    const runSteps = new RunSteps(db, runEvents);
    const approvals = new Approvals(db, runEvents);
    const agentMessages = new AgentMessages(db);
    const idempotency = new Idempotency(db);
    const journal = new JournalledStreamLog(runEvents, streams);
    const webhooks = new Webhooks(db, cipher);
    const quota = new Quota({ db, counters, reservations, tellsOfBudgets: budgetWebhook !== undefined, logger });
    const calls = new Calls({
      db,
      quota,
      admissions,
      attempts,
      reservations,
      credentials,
      buckets: new ProviderBuckets({ buckets, limitsOf: limitsOfProviders(config.providers), logger }),
      bodies,
      providers,
      streams: new CallStreams({ streams, journal, runs, logger }),
      processId,
      logger,
    });

    const processes = new Processes(db);
    const batchedCalls = new BatchedCalls({ attempts, bodies, processes, providers, credentials, logger });

    const overlays = new Overlays(db);
    const routing = new LiveRouting({ config, providers, overlays, logger });
    await routing.start();
    closers.push(() => routing.stop());

    const lease = new Lease(processes, processId, logger);
    await lease.start();
    closers.push(() => lease.stop());
    closers.push(() => calls.stop());

    let workers: { readonly instances: readonly Worker[]; readonly running: Promise<unknown> } | undefined;
    if (roles.worker) {
      const client = new Client(temporal);
      const worker = {
        connection: temporal.connection,
        namespace: temporal.namespace,
        taskQueue: options.taskQueue,
        buildId,
        version: options.workerVersion,
        activities: createActivities({
          db,
          quota,
          reservations,
          streams,
          calls,
          runs,
          runSteps,
          agents,
          virtualKeys,
          approvals,
          agentMessages,
          agentAddresses: publicAddresses(config.gateway.agents.allowed_private_hosts),
          journal,
          cipher,
          files,
          batches,
          batchLines: new BatchLines(db),
          requests,
          bodies,
          policies,
          providers,
          routing,
          credentials,
          providerBatches,
          providerBatchCalls: new ProviderBatchCalls({
            attempts: new Attempts(db),
            bodies,
            credentials,
            providers,
            providerBatches,
            logger,
          }),
          nativeBatches: config.gateway.background.native_batches,
          maxLineBytes: config.gateway.server.body_limit_mb * 1024 * 1024,
          budgetWebhook,
          idempotency,
          retentionDays: config.gateway.retention.days,
          webhooks,
          webhookAddresses: publicAddresses(config.gateway.webhooks.allowed_private_hosts),
          webhookTimeoutMs: config.gateway.webhooks.timeout * 1000,
          batchedCalls,
          gather: (call) => gather(client, options.taskQueue, call),
          presenceOf: (runId) => presenceOf(client, runId),
          costs,
          costReports,
          logger,
        }),
        workflowBundle: workflowBundle(),
        shutdownGraceMs: graceMs,
      };
      const instances = [
        await createInteractiveWorker(worker),
        await createBackgroundWorker(worker, config.gateway.background.max_calls),
      ];
      workers = { instances, running: runTogether(instances) };
      if (options.workerVersion) await makeCurrent(temporal, options.workerVersion, logger);
      await ensureSchedules({
        client,
        taskQueue: options.taskQueue,
        sweepIntervalSeconds: config.gateway.budgets.sweep_interval,
        reports: config.gateway.reports.schedule,
        searchable: temporal.searchable,
      });
    }

    let ready = true;
    const app = roles.api
      ? await buildApp({
          logger,
          config,
          masterKey: options.masterKey,
          encryptionKey: options.encryptionKey,
          tls: config.gateway.server.tls && loadTls(config.gateway.server.tls),
          routing,
          providers,
          db,
          requests,
          idempotency,
          responses: new Responses(db),
          bodies,
          cipher,
          files,
          batches,
          agents,
          ledger: new Ledger(db),
          costs,
          costReports,
          webhooks,
          overlays,
          virtualKeys,
          policies,
          tenants: new Tenants(db),
          auditLog: new AuditLog(db),
          budgets: new Budgets(db),
          providerKeys,
          credentials,
          rateLimits: new RateLimits(db),
          counters,
          streams,
          journal,
          storedRuns: runs,
          runSteps,
          approvals,
          agentMessages,
          entrance: new Entrance({ width: ENTRANCE_WIDTH, patienceMs: ENTRANCE_PATIENCE_MS }),
          runs: new TemporalRuns({
            ...temporal,
            taskQueue: options.taskQueue,
            buildId: options.workerVersion ? undefined : buildId,
          }),
          reportRuns: new TemporalReports({ ...temporal, taskQueue: options.taskQueue }),
          webhookRuns: new TemporalWebhooks({ ...temporal, taskQueue: options.taskQueue }),
          calls,
          admissions,
          redis: options.redisUrl ? 'configured' : 'embedded',
          isReady: () => ready,
          version,
        })
      : undefined;

    const drain = app && prepareDrain(app, graceMs);

    return {
      app,
      broken: workers ? workers.running.then(() => new Promise<never>(() => {})) : new Promise(() => {}),
      async stop() {
        ready = false;
        await drain?.();
        stopWorkers(workers?.instances ?? []);
        await workers?.running.catch((error: unknown) =>
          logger.error({ err: error }, 'The worker did not stop cleanly'),
        );
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function requireSchema(db: Sql): Promise<void> {
  const pending = await pendingMigrations(db);
  if (pending.length === 0) return;
  throw new ConfigError(`The database lacks ${pending.join(', ')}. Run 'holdfast migrate' first.`);
}
