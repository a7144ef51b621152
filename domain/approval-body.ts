import { z } from 'zod';
import type { ApprovalTerms } from './approval.ts';
import { ROLES } from './roles.ts';

const DAY_SECONDS = 86_400;
const MAX_DAYS = 30;

const roles = z.array(z.enum(ROLES)).min(1);

/** How callers say who has to agree, and what happens if nobody does. Times are seconds. */
export const approvalTermsBody = z
  .strictObject({
    approvers: z
      .strictObject({
        roles: roles.default(['approver', 'admin']),
        /** Different people who have to approve. */
        count: z.int().min(1).max(10).default(1),
        /** By default so when more than one has to approve. */
        not_requester: z.boolean().optional(),
      })
      .prefault({}),
    timeout: z
      .int()
      .min(1)
      .max(MAX_DAYS * DAY_SECONDS)
      .default(DAY_SECONDS),
    on_timeout: z.enum(['approve', 'reject']).default('reject'),
    escalations: z
      .array(z.strictObject({ after: z.int().min(1), roles }))
      .max(10)
      .default([]),
    remind_every: z.int().min(60).optional(),
  })
  .superRefine(({ timeout, escalations }, context) => {
    for (const [i, { after }] of escalations.entries()) {
      if (after < timeout) continue;
      context.addIssue({ code: 'custom', path: ['escalations', i, 'after'], message: 'must be before the timeout' });
    }
  });

export type ApprovalTermsBody = z.output<typeof approvalTermsBody>;

const toMs = (seconds: number): number => seconds * 1000;

export function toApprovalTerms(body: ApprovalTermsBody): ApprovalTerms {
  const { approvers, timeout, on_timeout, escalations, remind_every } = body;
  const inOrder = escalations.toSorted((a, b) => a.after - b.after);
  return {
    approvers: {
      roles: [...new Set(approvers.roles)],
      count: approvers.count,
      notRequester: approvers.not_requester ?? approvers.count > 1,
    },
    timeoutMs: toMs(timeout),
    onTimeout: on_timeout,
    escalations: inOrder.map(({ after, roles }) => ({ afterMs: toMs(after), roles: [...new Set(roles)] })),
    ...(remind_every !== undefined && { remindEveryMs: toMs(remind_every) }),
  };
}
