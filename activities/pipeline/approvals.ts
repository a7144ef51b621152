import { toDollars } from '../../domain/money.ts';
import type { ApprovalSubject, ApprovalToRequest } from '../../domain/pipeline-run.ts';
import type { ApprovalProjection, Approvals } from '../../storage/postgres/approvals.ts';
import type { JournalledStreamLog } from '../../storage/streams/journalled.ts';
import { createTellWebhook, type RunStateDeps } from '../run-states.ts';
import { failing, type OpenPipeline, PipelineContext, type PipelineDeps } from './context.ts';
import { createFill } from './templates.ts';

export interface ApprovalDeps extends PipelineDeps, Pick<RunStateDeps, 'db' | 'webhooks' | 'cipher'> {
  readonly approvals: Approvals;
  readonly journal: JournalledStreamLog;
}

/** What approvers are shown. */
export interface ShownSubject {
  readonly title: string;
  readonly reason?: string;
  /** What will be done; approvers may change it. */
  readonly payload: string;
  /** What there was before. */
  readonly before?: string;
}

/** More than any run has escalations or reminders of one approval. */
const PER_APPROVAL = 10_000;

/** What people are asked and what they decided, for all to see. */
export function createApprovalActivities(deps: ApprovalDeps) {
  const { approvals, bodies, runs, journal } = deps;
  const context = new PipelineContext(deps);
  const fill = createFill(deps, context);
  const tellWebhook = createTellWebhook(deps);

  async function subjectOf(run: OpenPipeline, step: string, subject: ApprovalSubject): Promise<ShownSubject> {
    if (subject.kind === 'model_call') {
      const most = toDollars(subject.maxCostNanos);
      return { title: `A model call of '${step}' that could cost up to $${most}`, payload: '' };
    }
    if (subject.kind === 'tool_call') {
      const { name, arguments: args } = (await context.toolCall(subject.responseRef, subject.callId)).function;
      const tool = (await context.promptAgent(subject.definitionRef)).tools.find((one) => one.name === name);
      return {
        title: `Call '${name}'`,
        reason: tool ? `${tool.method} ${withoutQuery(tool.url)}` : '',
        payload: pretty(args),
      };
    }
    const { title = step, reason, payload, compareWith } = run.texts.get(step) ?? {};
    const filled = (text: string) => fill(run, text, subject.inputRef);
    return {
      title,
      ...(reason !== undefined && { reason: await filled(reason) }),
      payload: payload === undefined ? await context.content(subject.inputRef) : await filled(payload),
      ...(compareWith !== undefined && { before: await filled(compareWith) }),
    };
  }

  async function tell(id: string, type: 'approval.requested' | 'approval.decided'): Promise<readonly string[]>;
  async function tell(
    id: string,
    type: 'approval.reminder' | 'approval.escalated',
    n: number,
  ): Promise<readonly string[]>;
  async function tell(id: string, type: Parameters<typeof tellWebhook>[1]['type'], n = 0): Promise<readonly string[]> {
    const approval = await approvals.find(id, undefined);
    const run = approval && (await runs.find(approval.runId, undefined));
    if (!approval || !run) return [];
    const { step, kind, state, roles, expiresAt } = approval;
    const about = { approval: { id, step, kind, state, roles, expires_at: expiresAt.toISOString() } };
    return tellWebhook(run, { type, occurrence: n === 0 ? approval.seq : approval.seq * PER_APPROVAL + n, about });
  }

  return {
    /** Shows people what they have to decide. Returns what they are asked to agree to, and deliveries to announce. */
    requestApproval: ({ id, runId, step, requesters, terms, subject, expiresAt }: ApprovalToRequest) =>
      failing(async () => {
        const run = await context.open(runId);
        const shown = await subjectOf(run, step, subject);
        const { roles, count, notRequester } = terms.approvers;
        const asked = { id, runId, step, kind: subject.kind, requesters, roles, count, notRequester };
        await approvals.insert({ ...asked, subject: bodies.seal(shown), expiresAt: new Date(expiresAt) });
        journal.announce(runId, false);
        const payloadRef = await bodies.store({ content: shown.payload });
        return { payloadRef, webhooks: await tell(id, 'approval.requested') };
      }),

    /** Writes down what became of an approval. Returns deliveries to announce. */
    recordApproval: (projection: ApprovalProjection): Promise<readonly string[]> =>
      failing(async () => {
        const { id, state, level } = projection;
        const before = await approvals.find(id, undefined);
        // It was withdrawn before it was shown to anybody.
        if (!before) return [];
        await approvals.project(projection);
        if (state !== 'pending') {
          journal.announce(before.runId, false);
          return tell(id, 'approval.decided');
        }
        return level > 0 ? tell(id, 'approval.escalated', level) : [];
      }),

    /** Reminds the webhook of an approval for the `n`th time. Returns deliveries to announce. */
    remindOfApproval: (id: string, n: number): Promise<readonly string[]> =>
      failing(() => tell(id, 'approval.reminder', n)),
  };
}

/** A query may hold a token. */
const withoutQuery = (url: string): string => url.split('?')[0] ?? url;

/** Arguments as people read them. */
function pretty(args: string): string {
  try {
    return JSON.stringify(JSON.parse(args), null, 2);
  } catch {
    return args;
  }
}
