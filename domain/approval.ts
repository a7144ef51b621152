import type { Role } from './roles.ts';

/** `expired`: nobody decided in time, and the default took effect. `withdrawn`: its run went on or ended without it. */
export const APPROVAL_STATES = ['pending', 'approved', 'rejected', 'expired', 'withdrawn'] as const;

export type ApprovalState = (typeof APPROVAL_STATES)[number];

export type DecidedState = Exclude<ApprovalState, 'pending'>;

/** Who may decide. */
export interface Approvers {
  /** Anybody with one of these roles. */
  readonly roles: readonly Role[];
  /** Different people who have to approve; one rejection is enough. */
  readonly count: number;
  /** Who started the run may not approve it. */
  readonly notRequester: boolean;
}

export interface Escalation {
  /** Milliseconds after which these may decide too. */
  readonly afterMs: number;
  readonly roles: readonly Role[];
}

export interface ApprovalTerms {
  readonly approvers: Approvers;
  /** Milliseconds until the default takes effect. */
  readonly timeoutMs: number;
  readonly onTimeout: 'approve' | 'reject';
  readonly escalations: readonly Escalation[];
  /** Milliseconds between reminders. */
  readonly remindEveryMs?: number;
}

/** For who asks for approval without saying more. */
export const DEFAULT_APPROVAL_TERMS: ApprovalTerms = {
  approvers: { roles: ['approver', 'admin'], count: 1, notRequester: false },
  timeoutMs: 24 * 3_600_000,
  onTimeout: 'reject',
  escalations: [],
};

/** Why a run asks. */
export type ApprovalKind = 'step' | 'tool_call' | 'model_call';

/** What one person says. Who it is and which roles he has was established by the front door. */
export interface Vote {
  readonly approvalId: string;
  readonly decision: 'approve' | 'reject';
  /** The key or user. */
  readonly actor: string;
  /** Who that is: several keys may be one person's. */
  readonly person: string;
  readonly roles: readonly Role[];
  /** Body: a comment, and what is to be done instead of what was asked for. */
  readonly saidRef?: string;
  /** Body: the latter by itself. */
  readonly payloadRef?: string;
  /** ISO. */
  readonly at: string;
}

/** An approval as its run has it. */
export interface OpenApproval {
  readonly id: string;
  readonly approvers: Approvers;
  /** Who started its run, and those that it repeats. */
  readonly requesters: readonly string[];
  /** For what it says at the moment. */
  readonly votes: readonly Vote[];
}

export type VoteProblem = { readonly code: 'caller_conflict' | 'caller_forbidden'; readonly message: string };

/** Why a vote does not count; undefined if it does. */
export function voteProblem(approval: OpenApproval | undefined, vote: Vote): VoteProblem | undefined {
  if (!approval) return { code: 'caller_conflict', message: 'The approval is decided already, or its run is over.' };
  const { approvers, requesters, votes } = approval;
  if (!vote.roles.some((role) => approvers.roles.includes(role))) {
    return { code: 'caller_forbidden', message: `Only these may decide: ${approvers.roles.join(', ')}.` };
  }
  if (approvers.notRequester && requesters.includes(vote.person)) {
    return { code: 'caller_forbidden', message: 'Who started the run may not decide about it.' };
  }
  if (votes.some(({ person }) => person === vote.person)) {
    return { code: 'caller_conflict', message: 'You have decided already; somebody else has to.' };
  }
  return undefined;
}

/** The votes with one more that counts. Who changes what will be done votes for that alone: the others did not see it. */
export const withVote = (votes: readonly Vote[], vote: Vote): readonly Vote[] =>
  vote.payloadRef === undefined ? [...votes, vote] : [vote];

/** What votes that count come to. */
export function tally({ approvers }: Pick<OpenApproval, 'approvers'>, votes: readonly Vote[]): ApprovalState {
  if (votes.some(({ decision }) => decision === 'reject')) return 'rejected';
  return votes.length >= approvers.count ? 'approved' : 'pending';
}
