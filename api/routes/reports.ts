import { z } from 'zod';
import { type CostReport, costReport } from '../../domain/costs.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { REPORT_PERIODS, rangeAt, reportId } from '../../domain/report-period.ts';
import { toCsv } from '../report-csv.ts';
import { cursor, instant, limit } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const CSV_SUFFIX = '.csv';

/** Cost reports of finished periods. */
export const reports: Routes = async (app, { costReports, reportRuns }) => {
  // A report is of the whole gateway, every team in it.
  const needs = 'budgets:manage';
  const tags = ['costs'];

  const find = async (id: string): Promise<CostReport> => {
    const report = await costReports.get(id);
    if (report) return report;
    throw new HoldfastError('caller_not_found', `There is no report '${id}'. GET /api/v1/reports lists them.`);
  };

  const list = {
    summary: 'Cost reports, latest periods first',
    tags,
    querystring: z.object({ limit, cursor }),
    response: { 200: z.object({ data: z.array(costReport.omit({ data: true })), next_cursor: z.string().nullable() }) },
  };
  app.get('/api/v1/reports', { config: { needs }, schema: list }, async ({ query }) => {
    const rows = await costReports.list(query.limit + 1, query.cursor);
    const data = rows.slice(0, query.limit);
    return { data, next_cursor: rows.length > query.limit ? (data.at(-1)?.id ?? null) : null };
  });

  const read = {
    summary: 'One cost report, as JSON or CSV',
    description: 'CSV with `?format=csv` or the id followed by `.csv`: one line for each group.',
    tags,
    params: z.object({ id: z.string() }),
    querystring: z.object({ format: z.enum(['json', 'csv']).optional() }),
  };
  app.get('/api/v1/reports/:id', { config: { needs }, schema: read }, async ({ params, query }, reply) => {
    const named = params.id.endsWith(CSV_SUFFIX);
    const report = await find(named ? params.id.slice(0, -CSV_SUFFIX.length) : params.id);
    if ((query.format ?? (named ? 'csv' : 'json')) === 'json') return reply.send(report);
    return reply
      .header('content-disposition', `attachment; filename="costs-${report.id}.csv"`)
      .type('text/csv; charset=utf-8')
      .send(toCsv(report));
  });

  const make = {
    summary: 'Make the report of a finished period now',
    description: '`since` is any moment of the period. A period that has its report keeps it.',
    tags,
    body: z.strictObject({ period: z.enum(REPORT_PERIODS), since: instant }),
    response: { 201: costReport },
  };
  app.post(
    '/api/v1/reports',
    { config: { needs, audit: 'cost_report.create' }, schema: make },
    async ({ body }, reply) => {
      const range = rangeAt(body.period, body.since);
      if (Date.parse(range.until) > Date.now()) {
        throw new HoldfastError(
          'caller_invalid_request',
          `The period ${reportId(range)} is not over; GET /api/v1/costs/summary tells of a running one.`,
          { param: 'since' },
        );
      }
      return reply.status(201).send(await find(await reportRuns.make(range)));
    },
  );
};
