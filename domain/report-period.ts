/** What a report is about. Days, weeks (from Monday) and months are UTC. */
export const REPORT_PERIODS = ['daily', 'weekly', 'monthly'] as const;

export type ReportPeriod = (typeof REPORT_PERIODS)[number];

/** A period as a workflow's history holds it: ISO instants, `until` is the first that is not in it. */
export interface ReportRange {
  readonly period: ReportPeriod;
  readonly since: string;
  readonly until: string;
}

/** The period that `at` falls into. */
export function rangeAt(period: ReportPeriod, at: Date): ReportRange {
  const [year, month, day] = [at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate()];
  const range = (since: number, until: number): ReportRange => ({
    period,
    since: new Date(since).toISOString(),
    until: new Date(until).toISOString(),
  });
  switch (period) {
    case 'daily':
      return range(Date.UTC(year, month, day), Date.UTC(year, month, day + 1));
    case 'weekly': {
      const monday = day - ((at.getUTCDay() + 6) % 7);
      return range(Date.UTC(year, month, monday), Date.UTC(year, month, monday + 7));
    }
    case 'monthly':
      return range(Date.UTC(year, month, 1), Date.UTC(year, month + 1, 1));
  }
}

/** The period that was over at `at`. */
export const finishedAt = (period: ReportPeriod, at: Date): ReportRange => before(rangeAt(period, at));

/** The period before another. */
export const before = ({ period, since }: ReportRange): ReportRange => rangeAt(period, new Date(Date.parse(since) - 1));

/** A report's id, such as `monthly-2026-10-01`: there is one of each period. */
export const reportId = ({ period, since }: Pick<ReportRange, 'period' | 'since'>): string =>
  `${period}-${since.slice(0, 10)}`;
