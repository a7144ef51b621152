import type { TlsOptions } from 'node:tls';
import type { Logger } from 'pino';
import type { Calls } from '../calls/calls.ts';
import type { Credentials } from '../calls/credentials.ts';
import type { LoadedConfig } from '../config/load.ts';
import type { LiveRouting } from '../planning/live-routing.ts';
import type { ProviderRegistry } from '../providers/registry.ts';
import type { Cipher } from '../storage/cipher.ts';
import type { Counters } from '../storage/counters/counters.ts';
import type { Admissions } from '../storage/postgres/admissions.ts';
import type { AgentMessages } from '../storage/postgres/agent-messages.ts';
import type { Agents } from '../storage/postgres/agents.ts';
import type { Approvals } from '../storage/postgres/approvals.ts';
import type { AuditLog } from '../storage/postgres/audit-log.ts';
import type { Batches } from '../storage/postgres/batches.ts';
import type { Bodies } from '../storage/postgres/bodies.ts';
import type { Budgets } from '../storage/postgres/budgets.ts';
import type { CostReports } from '../storage/postgres/cost-reports.ts';
import type { Costs } from '../storage/postgres/costs.ts';
import type { Sql } from '../storage/postgres/database.ts';
import type { Files } from '../storage/postgres/files.ts';
import type { Idempotency } from '../storage/postgres/idempotency.ts';
import type { Ledger } from '../storage/postgres/ledger.ts';
import type { Overlays } from '../storage/postgres/overlays.ts';
import type { Policies } from '../storage/postgres/policies.ts';
import type { ProviderKeys } from '../storage/postgres/provider-keys.ts';
import type { RateLimits } from '../storage/postgres/rate-limits.ts';
import type { Requests } from '../storage/postgres/requests.ts';
import type { Responses } from '../storage/postgres/responses.ts';
import type { RunSteps } from '../storage/postgres/run-steps.ts';
import type { Runs } from '../storage/postgres/runs.ts';
import type { Tenants } from '../storage/postgres/tenants.ts';
import type { VirtualKeys } from '../storage/postgres/virtual-keys.ts';
import type { Webhooks } from '../storage/postgres/webhooks.ts';
import type { JournalledStreamLog } from '../storage/streams/journalled.ts';
import type { StreamLog } from '../storage/streams/stream-log.ts';
import type { Entrance } from './runs/entrance.ts';
import type { TemporalReports } from './runs/temporal-reports.ts';
import type { TemporalRuns } from './runs/temporal-runs.ts';
import type { TemporalWebhooks } from './runs/temporal-webhooks.ts';

/** Everything the front door works with. */
export interface ApiDeps {
  readonly logger: Logger;
  readonly config: LoadedConfig;
  readonly masterKey: string;
  /** 32 bytes in hex. */
  readonly encryptionKey: string;
  /** Makes the front door speak TLS. */
  readonly tls: TlsOptions | undefined;
  readonly routing: LiveRouting;
  readonly providers: ProviderRegistry;
  readonly db: Sql;
  readonly requests: Requests;
  readonly idempotency: Idempotency;
  readonly responses: Responses;
  readonly cipher: Cipher;
  readonly bodies: Bodies;
  readonly files: Files;
  readonly batches: Batches;
  readonly ledger: Ledger;
  readonly costs: Costs;
  readonly costReports: CostReports;
  readonly webhooks: Webhooks;
  readonly overlays: Overlays;
  readonly virtualKeys: VirtualKeys;
  readonly policies: Policies;
  readonly tenants: Tenants;
  readonly auditLog: AuditLog;
  readonly budgets: Budgets;
  readonly providerKeys: ProviderKeys;
  /** For probes: what a provider's calls authenticate with. */
  readonly credentials: Credentials;
  readonly rateLimits: RateLimits;
  readonly counters: Counters;
  readonly streams: StreamLog;
  /** The stream log of runs in the background. */
  readonly journal: JournalledStreamLog;
  /** What the database knows of runs in the background. */
  readonly storedRuns: Runs;
  readonly runSteps: RunSteps;
  readonly agents: Agents;
  readonly approvals: Approvals;
  readonly agentMessages: AgentMessages;
  readonly runs: TemporalRuns;
  /** Where requests wait whose callers do. */
  readonly entrance: Entrance;
  readonly reportRuns: TemporalReports;
  readonly webhookRuns: TemporalWebhooks;
  /** Those that this process makes: first ones ahead of their workflows, and in a worker the rest. */
  readonly calls: Calls;
  readonly admissions: Admissions;
  /** Is the stream log Redis or in process? For /health. */
  readonly redis: 'configured' | 'embedded';
  /** Whether the process takes requests: false while it starts and while it stops. */
  readonly isReady: () => boolean;
  readonly version: string;
}
