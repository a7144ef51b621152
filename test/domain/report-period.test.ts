import { describe, expect, it } from 'vitest';
import { before, finishedAt, rangeAt, reportId } from '../../domain/report-period.ts';

const days = ({ since, until }: { since: string; until: string }) => [since, until].map((at) => at.slice(0, 10));

describe('a report’s period', () => {
  it.each([
    ['daily', '2024-02-28T23:59:59.999Z', ['2024-02-28', '2024-02-29']],
    ['daily', '2024-12-31T00:00:00Z', ['2024-12-31', '2025-01-01']],
    // 2026-11-21 is a Saturday.
    ['weekly', '2026-11-21T12:00:00Z', ['2026-11-16', '2026-11-23']],
    ['weekly', '2026-11-22T23:00:00Z', ['2026-11-16', '2026-11-23']],
    ['weekly', '2026-11-23T00:00:00Z', ['2026-11-23', '2026-11-30']],
    ['weekly', '2026-01-01T00:00:00Z', ['2025-12-29', '2026-01-05']],
    ['monthly', '2024-02-29T12:00:00Z', ['2024-02-01', '2024-03-01']],
    ['monthly', '2026-12-31T23:59:59Z', ['2026-12-01', '2027-01-01']],
  ] as const)('%s at %s is %j', (period, at, expected) => {
    expect(days(rangeAt(period, new Date(at)))).toEqual(expected);
  });

  it('comes after the one before it', () => {
    const march = rangeAt('monthly', new Date('2026-03-31T00:00:00Z'));
    expect(days(before(march))).toEqual(['2026-02-01', '2026-03-01']);
    expect(days(finishedAt('weekly', new Date('2026-11-23T00:30:00Z')))).toEqual(['2026-11-16', '2026-11-23']);
  });

  it('names its report', () => {
    expect(reportId(rangeAt('monthly', new Date('2026-03-31')))).toBe('monthly-2026-03-01');
  });
});
