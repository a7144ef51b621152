import type { CostReport, CostReportData } from '../../domain/costs.ts';
import { type ReportRange, reportId } from '../../domain/report-period.ts';
import type { Sql } from './database.ts';

/** Reports of finished periods, one of each. */
export class CostReports {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** A period that has its report keeps it. */
  async store(range: ReportRange, data: CostReportData): Promise<void> {
    const { period, since, until } = range;
    await this.db
      .insertInto('cost_reports')
      .values({
        id: reportId(range),
        period,
        since: new Date(since),
        until: new Date(until),
        data: JSON.stringify(data),
      })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }

  get(id: string): Promise<CostReport | undefined> {
    return this.db.selectFrom('cost_reports').selectAll().where('id', '=', id).executeTakeFirst();
  }

  /** Latest periods first, after `cursor` (an id). */
  list(limit: number, cursor: string | undefined): Promise<readonly Omit<CostReport, 'data'>[]> {
    return this.db
      .selectFrom('cost_reports as r')
      .select(['r.id', 'r.period', 'r.since', 'r.until', 'r.created_at'])
      .$if(cursor !== undefined, (query) =>
        query.where(({ eb, refTuple, selectFrom }) =>
          eb(
            refTuple('r.since', 'r.id'),
            '<',
            selectFrom('cost_reports as c')
              .select(['c.since', 'c.id'])
              .where('c.id', '=', cursor as string)
              .$asTuple('since', 'id'),
          ),
        ),
      )
      .orderBy('r.since', 'desc')
      .orderBy('r.id', 'desc')
      .limit(limit)
      .execute();
  }
}
