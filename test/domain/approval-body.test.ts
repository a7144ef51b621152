import { describe, expect, it } from 'vitest';
import { DEFAULT_APPROVAL_TERMS } from '../../domain/approval.ts';
import { approvalTermsBody, toApprovalTerms } from '../../domain/approval-body.ts';

const terms = (body: unknown) => toApprovalTerms(approvalTermsBody.parse(body));
const problems = (body: unknown) =>
  (approvalTermsBody.safeParse(body).error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`);

describe('the terms of an approval', () => {
  it('have one approver or admin decide within a day, and are against it otherwise', () => {
    expect(terms({})).toEqual({
      approvers: { roles: ['approver', 'admin'], count: 1, notRequester: false },
      timeoutMs: 86_400_000,
      onTimeout: 'reject',
      escalations: [],
    });
    expect(DEFAULT_APPROVAL_TERMS).toEqual(terms({}));
  });

  it('keep the requester out as soon as more than one has to approve, unless they say otherwise', () => {
    const notRequester = (approvers: object) => terms({ approvers }).approvers.notRequester;
    expect(notRequester({ count: 2 })).toBe(true);
    expect(notRequester({ count: 2, not_requester: false })).toBe(false);
    expect(notRequester({ not_requester: true })).toBe(true);
  });

  it('are in milliseconds, with escalations in the order in which they come', () => {
    const escalations = [
      { after: 60, roles: ['admin'] },
      { after: 30, roles: ['operator', 'operator'] },
    ];
    expect(terms({ timeout: 90, on_timeout: 'approve', escalations, remind_every: 60 })).toMatchObject({
      timeoutMs: 90_000,
      onTimeout: 'approve',
      escalations: [
        { afterMs: 30_000, roles: ['operator'] },
        { afterMs: 60_000, roles: ['admin'] },
      ],
      remindEveryMs: 60_000,
    });
  });

  it.each<[string, unknown, string]>([
    [
      'an escalation after the end',
      { timeout: 60, escalations: [{ after: 60, roles: ['admin'] }] },
      'escalations.0.after',
    ],
    ['an escalation to nobody', { escalations: [{ after: 1, roles: [] }] }, 'escalations.0.roles'],
    ['a timeout of no time', { timeout: 0 }, 'timeout'],
    ['more than 30 days', { timeout: 30 * 86_400 + 1 }, 'timeout'],
    ['reminders without pause', { remind_every: 59 }, 'remind_every'],
    ['nobody to decide', { approvers: { roles: [] } }, 'approvers.roles'],
    ['an unknown role', { approvers: { roles: ['root'] } }, 'approvers.roles.0'],
    ['too many approvers', { approvers: { count: 11 } }, 'approvers.count'],
    ['an unknown field', { remind: 60 }, ''],
  ])('cannot have %s', (_name, body, path) => {
    expect(problems(body)).toEqual([expect.stringMatching(new RegExp(`^${path.replaceAll('.', '\\.')}: `))]);
  });

  it('may have an escalation just before the end', () => {
    expect(problems({ timeout: 60, escalations: [{ after: 59, roles: ['admin'] }] })).toEqual([]);
  });
});
