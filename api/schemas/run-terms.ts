import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { checkWebhookSecret, checkWebhookUrl } from '../../activities/webhook-url.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { fromDollars } from '../../domain/money.ts';
import type { RunKind } from '../../domain/run-state.ts';
import { WEBHOOK_EVENTS, type WebhookEvent } from '../../domain/webhook.ts';
import type { ApiDeps } from '../context.ts';
import { DEFAULT_PRIORITY, defaultTerms, type RunTerms } from '../runs/background.ts';
import { instant } from './common.ts';

export const dollars = z.number().positive().max(1_000_000);

/** On what terms callers have a run go on in the background. */
export const runTermsFields = {
  /** 1 goes first, 5 last. */
  priority: z.int().min(1).max(5).default(DEFAULT_PRIORITY),
  /** By when it has to end; ISO or seconds since the epoch. */
  deadline: z
    .union([z.int().transform(String), z.string()])
    .pipe(instant)
    .optional(),
  /** The most all its calls may cost together. */
  max_cost_usd: dollars.optional(),
  metadata: z.record(z.string().max(64), z.string().max(512)).default({}),
  /** Who is told what becomes of it. Without a secret the gateway makes one and shows it once. */
  webhook: z
    .strictObject({
      url: z.url().max(2048),
      secret: z.string().optional(),
      events: z
        .array(z.enum(WEBHOOK_EVENTS))
        .min(1)
        .default([...WEBHOOK_EVENTS]),
    })
    .optional(),
};

/** A webhook as its owner is shown it, once. */
export const shownWebhook = z.object({
  url: z.string(),
  secret: z.string(),
  events: z.array(z.enum(WEBHOOK_EVENTS)),
});

const fields = z.object(runTermsFields);

interface ReadTerms {
  readonly terms: RunTerms;
  readonly webhook: z.output<typeof shownWebhook> | undefined;
}

const SECRET_BYTES = 24;
const DAY_MS = 86_400_000;

/** Throws `caller_invalid_request` for terms that cannot be kept. */
export function toRunTerms(
  deps: ApiDeps,
  kind: RunKind,
  { deadline, max_cost_usd, ...given }: z.output<typeof fields>,
): ReadTerms {
  const { days } = deps.config.gateway.retention;
  if (deadline && deadline.getTime() > Date.now() + days * DAY_MS) {
    const message = `The deadline must be within ${days} days: what a run was asked is not kept for longer.`;
    throw new HoldfastError('caller_invalid_request', message, { param: 'deadline' });
  }
  const webhook = given.webhook && toWebhook(given.webhook, deps.config.gateway.webhooks.allowed_private_hosts);
  const terms: RunTerms = {
    priority: given.priority,
    deadlineAt: deadline ?? defaultTerms(deps, kind).deadlineAt,
    maxCostNanos: max_cost_usd === undefined ? undefined : fromDollars(max_cost_usd),
    metadata: given.metadata,
    gather: false,
    webhook: webhook && deps.cipher.encrypt(Buffer.from(JSON.stringify(webhook))),
  };
  return { terms, webhook };
}

interface WantedWebhook {
  readonly url: string;
  readonly secret?: string | undefined;
  readonly events: WebhookEvent[];
}

/** A webhook that can be delivered to. */
function toWebhook(wanted: WantedWebhook, allowedPrivateHosts: readonly string[]): z.output<typeof shownWebhook> {
  const secret = wanted.secret ?? `whsec_${randomBytes(SECRET_BYTES).toString('base64')}`;
  checkWebhookUrl(wanted.url, allowedPrivateHosts);
  checkWebhookSecret(secret);
  return { ...wanted, secret };
}
