import { CancellationScope, condition, setHandler } from '@temporalio/workflow';
import {
  type ApprovalState,
  type ApprovalTerms,
  type DecidedState,
  type OpenApproval,
  tally,
  type Vote,
  voteProblem,
  withVote,
} from '../../domain/approval.ts';
import type { ApprovalSubject, CarriedApproval } from '../../domain/pipeline-run.ts';
import type { Role } from '../../domain/roles.ts';
import { toWorkflowFailure } from '../failures.ts';
import { decide } from '../messages.ts';
import { announceWebhooks } from '../webhook.ts';
import { records } from './activities.ts';
import { Drained } from './drained.ts';

export interface ApprovalQuestion {
  readonly step: string;
  /** Tells the questions of a step apart. */
  readonly key: string;
  readonly terms: ApprovalTerms;
  readonly subject: ApprovalSubject;
}

export interface ApprovalAnswer {
  readonly approved: boolean;
  /** Body: what is to be done, as it was asked for or as an approver changed it. */
  readonly payloadRef: string;
  /** Body: what the last approver said. */
  readonly saidRef?: string;
  readonly expired: boolean;
}

export interface ApprovalsOptions {
  readonly runId: string;
  readonly requesters: readonly string[];
  readonly carried: readonly CarriedApproval[];
  readonly draining: () => boolean;
}

interface Asked extends OpenApproval {
  readonly askedAt: number;
  readonly terms: ApprovalTerms;
  roles: readonly Role[];
  votes: readonly Vote[];
  level: number;
  reminders: number;
  revision: number;
  payloadRef: string | undefined;
  outcome: DecidedState | undefined;
}

/**
 * What people have to agree to. The workflow decides, once for each approval, and the table of approvals shows what it
 * decided.
 */
export class Approvals {
  /** Also those that are decided, until their step knows. */
  private readonly asked = new Map<string, Asked>();
  private readonly options: ApprovalsOptions;

  constructor(options: ApprovalsOptions) {
    this.options = options;
    // People may decide before the steps that asked are reached again.
    for (const one of options.carried) this.asked.set(one.id, this.toAsked(one));
    setHandler(decide, (vote) => this.count(vote), { validator: (vote) => void this.countable(vote) });
  }

  get pending(): number {
    return [...this.asked.values()].filter(({ outcome }) => outcome === undefined).length;
  }

  carry(): readonly CarriedApproval[] {
    return [...this.asked.values()].map(
      ({ id, terms, askedAt, level, reminders, votes, revision, payloadRef, outcome }) => ({
        id,
        terms,
        askedAt,
        level,
        reminders,
        votes,
        revision,
        ...(payloadRef && { payloadRef }),
        ...(outcome && { outcome }),
      }),
    );
  }

  /** Waits until it is decided, by people or by time. */
  async ask({ step, key, terms, subject }: ApprovalQuestion): Promise<ApprovalAnswer> {
    const { runId, requesters } = this.options;
    const id = `${runId}.${key}`;
    const fresh = { id, terms, askedAt: Date.now(), level: 0, reminders: 0, votes: [], revision: 0 };
    const asked = this.asked.get(id) ?? this.toAsked(fresh);
    // Before it is shown to anybody: whoever sees it may decide at once.
    this.asked.set(id, asked);
    try {
      const expiresAt = asked.askedAt + terms.timeoutMs;
      const request = { id, runId, step, requesters, terms, subject, expiresAt };
      // A cancellation in the middle would leave it undecided for ever.
      const { payloadRef, webhooks } = await CancellationScope.nonCancellable(() =>
        records(`${step}: ask for approval`).requestApproval(request),
      );
      await announceWebhooks(webhooks);
      await this.decided(asked, step, expiresAt);
      this.asked.delete(id);
      const saidRef = asked.votes.at(-1)?.saidRef;
      const expired = asked.outcome === 'expired';
      const approved = asked.outcome === 'approved' || (expired && terms.onTimeout === 'approve');
      // What one of several people made of it is not what is done when nobody decides.
      const agreed = expired ? payloadRef : (asked.payloadRef ?? payloadRef);
      return { approved, expired, payloadRef: agreed, ...(saidRef && { saidRef }) };
    } catch (error) {
      if (error instanceof Drained) throw error;
      this.asked.delete(id);
      asked.outcome ??= 'withdrawn';
      await CancellationScope.nonCancellable(() => this.record(asked));
      throw error;
    }
  }

  private toAsked({ outcome, payloadRef, ...asked }: CarriedApproval): Asked {
    const { terms, level } = asked;
    const { requesters } = this.options;
    const { approvers } = terms;
    return { ...asked, requesters, approvers, roles: rolesAt(terms, level), payloadRef, outcome };
  }

  private async decided(asked: Asked, step: string, expiresAt: number): Promise<void> {
    const { terms } = asked;
    while (asked.outcome === undefined) {
      const escalateAt = asked.askedAt + (terms.escalations[asked.level]?.afterMs ?? Number.POSITIVE_INFINITY);
      const remindAt = asked.askedAt + (asked.reminders + 1) * (terms.remindEveryMs ?? Number.POSITIVE_INFINITY);
      const next = Math.min(escalateAt, remindAt, expiresAt);
      const woken = await condition(
        () => asked.outcome !== undefined || this.options.draining(),
        Math.max(1, next - Date.now()),
        { summary: `${step}: until somebody decides` },
      );
      if (asked.outcome !== undefined) return;
      if (woken) throw new Drained();
      if (next === expiresAt) {
        asked.outcome = 'expired';
        await this.record(asked);
      } else if (next === escalateAt) {
        asked.level += 1;
        asked.roles = rolesAt(terms, asked.level);
        await this.record(asked);
      } else {
        // Those that were missed meanwhile are not made up for.
        asked.reminders = Math.floor((Date.now() - asked.askedAt) / (terms.remindEveryMs ?? 1));
        await announceWebhooks(await records('remind of approval').remindOfApproval(asked.id, asked.reminders));
      }
    }
  }

  private countable(vote: Vote): Asked {
    const found = this.asked.get(vote.approvalId);
    const asked = found?.outcome === undefined ? found : undefined;
    const problem = voteProblem(asked && { ...asked, approvers: { ...asked.approvers, roles: asked.roles } }, vote);
    if (problem || !asked) throw toWorkflowFailure(problem ?? { code: 'caller_conflict', message: '' });
    return asked;
  }

  private async count(vote: Vote): Promise<ApprovalState> {
    // Again: another vote may have counted since this one was let in.
    const asked = this.countable(vote);
    asked.votes = withVote(asked.votes, vote);
    asked.payloadRef = vote.payloadRef ?? asked.payloadRef;
    const state = tally(asked, asked.votes);
    if (state !== 'pending') asked.outcome = state;
    await this.record(asked);
    return state;
  }

  private async record(asked: Asked): Promise<void> {
    asked.revision += 1;
    const { id, outcome, roles, level, revision, payloadRef } = asked;
    const state: ApprovalState = outcome ?? 'pending';
    const votes = asked.votes.map(({ actor, decision, at, saidRef }) => ({
      actor,
      decision,
      at,
      ...(saidRef && { said_ref: saidRef }),
    }));
    const projection = { id, state, roles, votes, level, revision, payloadRef: payloadRef ?? null };
    await announceWebhooks(await records(`approval ${state}`).recordApproval(projection));
  }
}

const rolesAt = ({ approvers, escalations }: ApprovalTerms, level: number): readonly Role[] => [
  ...new Set([...approvers.roles, ...escalations.slice(0, level).flatMap(({ roles }) => roles)]),
];
