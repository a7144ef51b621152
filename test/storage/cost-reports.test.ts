import { expect, it } from 'vitest';
import { createCostReportActivities } from '../../activities/cost-report.ts';
import { rangeAt } from '../../domain/report-period.ts';
import { NOBODY } from '../../domain/scope.ts';
import { CostReports } from '../../storage/postgres/cost-reports.ts';
import { Costs } from '../../storage/postgres/costs.ts';
import type { Sql } from '../../storage/postgres/database.ts';
import { insertRequest, onEveryDatabase } from '../support/databases.ts';

/** A settled request of another time. */
async function spent(db: Sql, at: string, costNanos: number, team: string | null = null): Promise<void> {
  const id = await insertRequest(db, { attribution: { ...NOBODY, team }, markupPercent: 50 });
  await db
    .updateTable('llm_requests')
    .set({ timestamp: new Date(at), completed_at: new Date(at), cost_nanos: costNanos, model_used: 'm' })
    .where('id', '=', id)
    .execute();
}

onEveryDatabase('cost reports', (database) => {
  it('tell what a period cost, by whom, and against the period before', async () => {
    const { db } = database;
    const [costs, costReports] = [new Costs(db), new CostReports(db)];
    const { makeCostReport } = createCostReportActivities({ costs, costReports });
    await spent(db, '2001-01-31T23:59:59Z', 2_000);
    await spent(db, '2001-02-01T00:00:00Z', 3_000, 'red');
    await spent(db, '2001-02-28T23:59:59Z', 4_000, 'blue');
    await spent(db, '2001-03-01T00:00:00Z', 99_000);
    await makeCostReport(rangeAt('monthly', new Date('2001-02-10')));

    const report = await costReports.get('monthly-2001-02-01');
    expect(report).toMatchObject({
      period: 'monthly',
      since: new Date('2001-02-01'),
      until: new Date('2001-03-01'),
      data: {
        total: { requests: 2, cost_usd: 7e-6, billed_usd: 1.05e-5, markup_usd: 3.5e-6 },
        change: { requests: 1, cost_usd: 5e-6, cost_percent: 250 },
      },
    });
    expect(report?.data.by_team.map(({ group, cost_usd }) => [group, cost_usd])).toEqual([
      ['blue', 4e-6],
      ['red', 3e-6],
    ]);
    expect(report?.data.by_model.map(({ group }) => group)).toEqual(['m']);
  });

  it('are made once a period', async () => {
    const { db } = database;
    const [costs, costReports] = [new Costs(db), new CostReports(db)];
    const { makeCostReport } = createCostReportActivities({ costs, costReports });
    const day = rangeAt('daily', new Date('2001-05-05'));
    await makeCostReport(day);
    await spent(db, '2001-05-05T12:00:00Z', 1_000);
    await makeCostReport(day);
    expect((await costReports.get('daily-2001-05-05'))?.data.total.requests).toBe(0);
  });

  it('are listed latest period first, page by page', async () => {
    const { db } = database;
    const [costs, costReports] = [new Costs(db), new CostReports(db)];
    const { makeCostReport } = createCostReportActivities({ costs, costReports });
    for (const day of ['2002-01-01', '2002-01-03', '2002-01-02']) {
      await makeCostReport(rangeAt('daily', new Date(day)));
    }
    const pages: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await costReports.list(2, cursor);
      pages.push(...page.map(({ id }) => id));
      cursor = page.length === 2 ? page.at(-1)?.id : undefined;
    } while (cursor);
    expect(pages.filter((id) => id.startsWith('daily-2002'))).toEqual([
      'daily-2002-01-03',
      'daily-2002-01-02',
      'daily-2002-01-01',
    ]);
    expect(new Set(pages).size).toBe(pages.length);
  });
});
