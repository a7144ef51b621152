import { describe, expect, it } from 'vitest';
import { type ClaimMapping, identityOfClaims } from '../../domain/claims.ts';

const map = (claims: Record<string, unknown>, mapping: Partial<ClaimMapping> = {}) =>
  identityOfClaims(claims, { claims: { user: 'sub' }, roles: {}, default_roles: [], ...mapping });

describe('the claims of a token', () => {
  it('are found by name and by path', () => {
    const claims = { user: 'email', team: 'org.unit', project: 'https://holdfast.example/project' };
    const token = { email: 'ann@example.com', org: { unit: 'blue' }, 'https://holdfast.example/project': 'p' };
    expect(map(token, { claims })).toEqual({ user: 'ann@example.com', team: 'blue', project: 'p', roles: [] });
  });

  it('give no team and no project where they have none', () => {
    expect(map({ sub: 'ann' }, { claims: { user: 'sub', team: 'org.unit', project: 'p' } })).toEqual({
      user: 'ann',
      team: null,
      project: null,
      roles: [],
    });
  });

  it.each([
    ['no user', {}],
    ['a user that is no text', { sub: 7 }],
    ['an empty user', { sub: '' }],
    ['an endless user', { sub: 'x'.repeat(201) }],
    ['several teams', { sub: 'ann', team: ['blue', 'red'] }],
    ['an empty team', { sub: 'ann', team: '' }],
  ])('with %s are refused', (_name, token) => {
    expect(() => map(token, { claims: { user: 'sub', team: 'team' } })).toThrow(/claim/);
  });

  it('do not reach into what every object has', () => {
    expect(() => map({}, { claims: { user: 'constructor.name' } })).toThrow(/claim/);
  });
});

describe('the roles of a token', () => {
  const mapping = {
    claims: { user: 'sub', roles: 'realm_access.roles' },
    roles: { 'gateway-admin': 'admin', ops: 'operator', 'Team Lead': 'approver' },
    default_roles: ['viewer'],
  } as const;
  const rolesOf = (roles: unknown) => map({ sub: 'ann', realm_access: { roles } }, mapping).roles;

  it('are those that the config names', () => {
    expect(rolesOf(['gateway-admin', 'ops', 'ops', 'offline_access'])).toEqual(['admin', 'operator']);
    expect(rolesOf('openid ops')).toEqual(['operator']);
    expect(rolesOf('Team Lead')).toEqual(['approver']);
  });

  it('are never taken by their own name', () => {
    expect(rolesOf(['admin', 'constructor', '__proto__', 7, null])).toEqual(['viewer']);
  });

  it('are the default ones where the claim gives none', () => {
    expect(rolesOf(undefined)).toEqual(['viewer']);
    expect(rolesOf({ admin: true })).toEqual(['viewer']);
    expect(map({ sub: 'ann' }).roles).toEqual([]);
  });
});
