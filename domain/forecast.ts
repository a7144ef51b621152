import type { NanoDollars } from './money.ts';
import { rangeAt } from './report-period.ts';

export interface Forecast {
  /** The end of the running month, UTC. */
  readonly until: Date;
  readonly nanos: NanoDollars;
  readonly method: string;
}

const METHOD = 'run rate: the cost of this month so far divided by the elapsed share of the month';
/** Below a day the rate says more about the time of day than about the month. */
const MIN_ELAPSED_MS = 24 * 60 * 60 * 1000;

/** What the running month will have cost, if it goes on as it went so far. */
export function forecastMonth(spentNanos: NanoDollars, now: Date): Forecast {
  const month = rangeAt('monthly', now);
  const [since, until] = [Date.parse(month.since), Date.parse(month.until)];
  const elapsed = Math.max(MIN_ELAPSED_MS, now.getTime() - since);
  return { until: new Date(until), nanos: Math.round((spentNanos / elapsed) * (until - since)), method: METHOD };
}
