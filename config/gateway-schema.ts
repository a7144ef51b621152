import { z } from 'zod';
import { REPORT_PERIODS } from '../domain/report-period.ts';
import { authSchema, tlsSchema } from './auth-schema.ts';

const seconds = z.number().positive();

const common = {
  /** false leaves the provider off without removing its entry. */
  enabled: z.boolean().default(true),
  /** Seconds one call may take, from request to last byte. */
  timeout: seconds.default(60),
  /** Calls per request to this provider, including the first. */
  max_retries: z.int().min(1).max(20).default(3),
  /** Whose model ids it uses in models.yaml; by default the provider's name if the catalogue knows it, else its type. */
  vendor: z.string().optional(),
  /** Where requests to it stay, as keys with a `privacyZone` demand, e.g. `[eu, gdpr]`. */
  privacy_zones: z.array(z.string().min(1)).default([]),
  /** What the provider allows per minute and model, where its answers do not say so or less is to be used. */
  limits: z
    .strictObject({
      requests_per_minute: z.int().positive().optional(),
      tokens_per_minute: z.int().positive().optional(),
    })
    .optional(),
};

const optionalText = z
  .string()
  .nullish()
  .transform((value) => value || undefined);

const httpProvider = {
  ...common,
  /**
   * Empty leaves the provider off; a server at `base_url` that needs no key has no `api_key` entry at all. `stored` is for
   * a provider whose keys are in the database only.
   */
  api_key: z.string().optional(),
  base_url: z.preprocess((value) => value || undefined, z.url().optional()),
  default_model: optionalText,
  /**
   * Whether batches run through the batch API of the provider's type. By default they do at OpenAI and Anthropic
   * themselves, and not at another `base_url`: most servers there have none.
   */
  batches: z.boolean().optional(),
};

export const providerSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('openai'), ...httpProvider }),
  z.strictObject({ type: z.literal('anthropic'), ...httpProvider }),
  z.strictObject({
    type: z.literal('bedrock'),
    ...common,
    region: optionalText,
    /** Another endpoint than AWS's own: a VPC endpoint, a proxy, an emulator. */
    endpoint: optionalText,
    /** The default model. */
    model_id: optionalText,
  }),
  z.strictObject({ type: z.literal('demo'), ...common, default_model: z.string().default('demo') }),
]);

const fallback = z.strictObject({
  enabled: z.boolean().default(true),
  fallback_order: z.array(z.string()).default([]),
  /** Targets per request, including the first. */
  max_fallback_attempts: z.int().min(1).max(20).default(2),
  retry_original: z.boolean().default(false),
});

const aliases = z.record(z.string(), z.array(z.strictObject({ provider: z.string(), model: z.string() })).min(1));

/** Routing as it may be stored over gateway.yaml: a section that is given replaces the file's as a whole. */
export const routingPolicySchema = z.strictObject({
  default_provider: z.string().optional(),
  fallback: fallback.optional(),
  models: aliases.optional(),
});

export type RoutingPolicy = z.output<typeof routingPolicySchema>;

/** Every provider that a routing policy names, with the place where it does. */
export function* providersNamed(
  policy: RoutingPolicy,
): Generator<{ readonly name: string; readonly path: PropertyKey[] }> {
  if (policy.default_provider) yield { name: policy.default_provider, path: ['default_provider'] };
  for (const [i, name] of (policy.fallback?.fallback_order ?? []).entries()) {
    yield { name, path: ['fallback', 'fallback_order', i] };
  }
  for (const [alias, targets] of Object.entries(policy.models ?? {})) {
    for (const [i, { provider }] of targets.entries()) yield { name: provider, path: ['models', alias, i, 'provider'] };
  }
}

const rateLimit = z.strictObject({
  enabled: z.boolean().default(false),
  requests_per_minute: z.int().positive().default(60),
  tokens_per_minute: z.int().positive().default(100_000),
  /** Most seconds a request may wait for a limit (`x-holdfast-max-wait`). */
  max_wait: z.number().min(0).default(60),
  /** Without Redis: `open` lets requests through, `closed` refuses those that have limits. */
  when_unavailable: z.enum(['open', 'closed']).default('open'),
});

const changeableBudgets = z.strictObject({
  /** Which requests for a model without a price are refused: all, those under a hard budget, or none. */
  unpriced_models: z.enum(['refuse', 'refuse_with_hard_budget', 'allow']).default('refuse_with_hard_budget'),
});

const retry = z.strictObject({
  /** Seconds before the second call; doubles with each further one. More than 30 no workflow's retry policy takes. */
  retry_delay: z.number().min(0).max(30).default(1),
});

/** A name, an address or a network: `hooks.internal`, `10.1.2.3`, `10.0.0.0/8`. */
const hostOrNetwork = z.union([z.hostname(), z.ipv6(), z.cidrv4(), z.cidrv6()], {
  error: 'must be a host name, an address or a network such as 10.0.0.0/8',
});

const webhooks = z.strictObject({
  /** Seconds a receiver has to answer; the budgets' webhook too. At most what one try of a workflow's may take. */
  timeout: seconds.max(60).default(10),
  /** Receivers of runs that callers may name although their addresses are not public. */
  allowed_private_hosts: z.array(hostOrNetwork).default([]),
});

const agents = z.strictObject({
  /** Tools and remote agents that callers may name although their addresses are not public. */
  allowed_private_hosts: z.array(hostOrNetwork).default([]),
  /** Hours within which a workflow ends, where it has no deadline of its own. People take their time to approve. */
  deadline_hours: z.number().positive().max(720).default(168),
});

const logging = z.strictObject({
  /** Characters of the last user message kept in `llm_requests.prompt`; 0 keeps none. */
  prompt_preview: z.int().min(0).max(10_000).default(0),
});

const changeable = { rate_limit: rateLimit, budgets: changeableBudgets, logging, retry };

/** What of gateway.yaml can change while the gateway runs. */
export const platformSettingsSchema = z.object(changeable);

export type PlatformSettings = z.output<typeof platformSettingsSchema>;

/** Settings as they may be stored over gateway.yaml: a section that is given replaces the file's as a whole. */
export const storedSettingsSchema = z.strictObject(changeable).partial();

export type StoredSettings = z.output<typeof storedSettingsSchema>;

const gatewayObject = z.strictObject({
  /** Provider for requests that name none; by default the first configured one. */
  default_provider: z.string().optional(),
  providers: z.record(z.string().regex(/^[a-z0-9][a-z0-9_-]*$/i, 'letters, digits, - and _ only'), providerSchema),
  fallback: fallback.prefault({}),
  models: aliases.default({}),
  /** Limits for keys that set none of their own. */
  rate_limit: rateLimit.prefault({}),
  budgets: changeableBudgets
    .extend({
      /** Told when a budget is 50, 80 and 100 % spent. */
      webhook: z.strictObject({ url: z.url(), secret: optionalText }).optional(),
      /** Seconds between two comparisons of the counters with the ledger; 0 for none. */
      sweep_interval: z.number().min(0).default(60),
    })
    .prefault({}),
  /** Cost reports. */
  reports: z
    .strictObject({
      schedule: z.enum([...REPORT_PERIODS, 'off']).default('monthly'),
    })
    .prefault({}),
  retry: retry.prefault({}),
  /** What receivers are told about runs. */
  webhooks: webhooks.prefault({}),
  /** What callers register to be called. */
  agents: agents.prefault({}),
  server: z
    .strictObject({
      /** Largest request body in megabytes. */
      body_limit_mb: z.number().positive().max(1024).default(20),
      /** Seconds within which every request is answered, with an error if need be. */
      request_deadline: seconds.default(600),
      /** Seconds that running requests get to finish when the process is told to stop. */
      shutdown_grace: z.number().min(0).default(30),
      /** Makes the front door speak TLS. */
      tls: tlsSchema.optional(),
    })
    .prefault({}),
  /**
   * Whether the front door makes the first call of a request while Temporal acknowledges its workflow. Callers see
   * nothing of it before that; without it every answer takes longer by the start of a workflow.
   */
  speculation: z.strictObject({ enabled: z.boolean().default(true) }).prefault({}),
  /** Work that nobody waits for: background responses, jobs, batches. */
  background: z
    .strictObject({
      /** Provider calls each worker process makes for it at the same time; what is more waits its turn. */
      max_calls: z.int().positive().default(100),
      /** Hours within which a run ends, where it has no deadline of its own. */
      deadline_hours: z.number().positive().max(720).default(24),
      /** Whether lines of batches go through the providers' own batch APIs, where they have one: slower, and cheaper. */
      native_batches: z.boolean().default(true),
    })
    .prefault({}),
  /** Days that bodies, answers, stored responses and events are kept. The ledger stays. */
  retention: z.strictObject({ days: z.int().positive().default(30) }).prefault({}),
  files: z
    .strictObject({
      /** Largest upload to /v1/files in megabytes. */
      max_mb: z.number().positive().default(512),
    })
    .prefault({}),
  auth: authSchema.prefault({}),
  logging: logging.prefault({}),
});

const HOURS_PER_DAY = 24;

export const gatewaySchema = gatewayObject.superRefine((config, context) => {
  if (config.background.deadline_hours > config.retention.days * HOURS_PER_DAY) {
    const message = "must not be longer than 'retention.days'";
    context.addIssue({ code: 'custom', path: ['background', 'deadline_hours'], message });
  }
  for (const { name, path } of providersNamed(config)) {
    if (config.providers[name]) continue;
    const known = Object.keys(config.providers).join(', ') || 'none';
    context.addIssue({ code: 'custom', path, message: `provider '${name}' is not in 'providers' (${known})` });
  }
  if (Object.keys(config.auth.mtls.subjects).length > 0 && !config.server.tls?.client_ca) {
    const message = "needs 'server.tls' with 'client_ca'";
    context.addIssue({ code: 'custom', path: ['auth', 'mtls', 'subjects'], message });
  }
});

export type GatewayConfig = z.output<typeof gatewaySchema>;
export type ProviderConfig = z.output<typeof providerSchema>;
