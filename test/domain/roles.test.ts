import { describe, expect, it } from 'vitest';
import { PERMISSIONS, permissionsOf, type ROLES, toRoles } from '../../domain/roles.ts';

const allowed = (role: (typeof ROLES)[number], team: string | null = null) => [...permissionsOf([role], team)].sort();

describe('a role', () => {
  it('admin may do everything', () => {
    expect(allowed('admin')).toEqual([...PERMISSIONS].sort());
  });

  it('others may do their part', () => {
    expect(allowed('operator')).toEqual(['ledger:read', 'runs:operate']);
    expect(allowed('approver')).toEqual(['approvals:decide', 'ledger:read']);
    expect(allowed('developer')).toEqual(['ledger:read', 'models:call']);
    expect(allowed('viewer')).toEqual(['ledger:read']);
  });

  it('adds to others', () => {
    expect([...permissionsOf(['operator', 'developer'], null)].sort()).toEqual([
      'ledger:read',
      'models:call',
      'runs:operate',
    ]);
    expect(permissionsOf([], null).size).toBe(0);
  });

  it('reaches no further than the team of who has it', () => {
    expect(allowed('admin', 'alpha')).toEqual([
      'approvals:decide',
      'keys:manage',
      'ledger:read',
      'models:call',
      'runs:operate',
    ]);
  });

  it('of an unknown name counts for nothing', () => {
    expect(toRoles(['viewer', 'root', 'viewer', 'constructor'])).toEqual(['viewer']);
  });
});
