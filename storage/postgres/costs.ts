import { type RawBuilder, sql } from 'kysely';
import type { CostFigures, CostGroup, CostGroupBy } from '../../domain/costs.ts';
import type { NanoDollars } from '../../domain/money.ts';
import type { Sql } from './database.ts';
import type { Visible } from './requests.ts';

/** The column that each filter and most groups read. */
const COLUMNS = {
  key: 'virtual_key_id',
  user: 'user_id',
  team: 'team',
  project: 'project',
  organisation: 'organisation',
  feature: 'feature',
  workflow: 'surface',
  model: 'model_used',
  provider: 'provider_used',
} as const;

type Column = keyof typeof COLUMNS;

export interface CostFilter extends Readonly<Partial<Record<Column, string | undefined>>> {
  readonly visible?: Visible | undefined;
  readonly since?: Date | undefined;
  readonly until?: Date | undefined;
}

export interface CostSummary {
  /** Dearest first; days in their order. */
  readonly groups: readonly CostGroup[];
  readonly total: CostFigures;
}

/** Sums over the ledger. Requests that still run are not in them. */
export class Costs {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  /** One statement, so that the groups add up to the total. */
  async summary(groupBy: CostGroupBy, filter: CostFilter): Promise<CostSummary> {
    const { rows } = await sql<CostGroup & { readonly is_total: boolean }>`
      WITH r AS (
        SELECT l.id, l.status, l.prompt_tokens, l.completion_tokens, l.cost_nanos, l.markup_percent,
          ${groupValue(groupBy)} AS "group"
        FROM llm_requests l WHERE ${conditions(filter)}
      ), a AS (
        SELECT a.request_id, sum(a.cache_savings_nanos) AS savings,
          sum(a.cached_tokens) FILTER (WHERE a.state = 'succeeded') AS cached,
          sum(a.cost_nanos) FILTER (WHERE a.state = 'unknown') AS unknown
        FROM attempts a JOIN r ON r.id = a.request_id GROUP BY a.request_id
      )
      SELECT "group", grouping("group") = 1 AS is_total,
        count(*) AS requests,
        count(*) FILTER (WHERE r.status = 'failure') AS failures,
        coalesce(sum(r.prompt_tokens), 0)::float8 AS prompt_tokens,
        coalesce(sum(r.completion_tokens), 0)::float8 AS completion_tokens,
        coalesce(sum(a.cached), 0)::float8 AS cached_tokens,
        ${dollars(sql`r.cost_nanos`)} AS cost_usd,
        ${dollars(sql`r.cost_nanos * (1 + r.markup_percent / 100)`)} AS billed_usd,
        ${dollars(sql`a.unknown`)} AS unknown_usd,
        ${dollars(sql`a.savings`)} AS cache_savings_usd
      FROM r LEFT JOIN a ON a.request_id = r.id
      GROUP BY GROUPING SETS (("group"), ())
      ORDER BY ${groupBy === 'day' ? sql`1` : sql`cost_usd DESC, 1`}`.execute(this.db);
    const figures = rows.map(({ is_total, ...row }) => ({ is_total, row }));
    const groups = figures.filter(({ is_total }) => !is_total).map(({ row }) => row);
    // GROUP BY () gives a row even for no requests.
    const { group: _none, ...total } = (figures.find(({ is_total }) => is_total) as (typeof figures)[number]).row;
    return { groups, total };
  }

  /** What the settled requests cost together. */
  async spent(filter: CostFilter): Promise<NanoDollars> {
    const { rows } = await sql<{ nanos: number }>`
      SELECT coalesce(sum(l.cost_nanos), 0)::bigint AS nanos FROM llm_requests l WHERE ${conditions(filter)}`.execute(
      this.db,
    );
    return rows[0]?.nanos ?? 0;
  }

  /** Tokens that a model put out on average since `since`; undefined when it was not called. */
  async averageOutput(provider: string, model: string, since: Date): Promise<number | undefined> {
    const { rows } = await sql<{ tokens: number | null }>`
      SELECT avg(completion_tokens)::float8 AS tokens FROM attempts
      WHERE provider = ${provider} AND model = ${model} AND started_at >= ${since} AND state = 'succeeded'`.execute(
      this.db,
    );
    return rows[0]?.tokens ?? undefined;
  }
}

const dollars = (nanos: RawBuilder<unknown>) => sql`coalesce(sum(${nanos}) / 1000000000.0, 0)::float8`;

const groupValue = (groupBy: CostGroupBy): RawBuilder<unknown> =>
  groupBy === 'day' ? sql`to_char(l.timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD')` : sql.ref(`l.${COLUMNS[groupBy]}`);

function conditions({ visible, since, until, ...values }: CostFilter): RawBuilder<unknown> {
  const equal = Object.entries(values).flatMap(([name, value]) =>
    value === undefined ? [] : [sql`${sql.ref(`l.${COLUMNS[name as Column]}`)} = ${value}`],
  );
  const all = [
    sql`l.completed_at IS NOT NULL`,
    ...equal,
    ...(visible ? [sql`l.owner = ${visible.owner}`] : []),
    ...(visible?.project === undefined ? [] : [sql`l.project = ${visible.project}`]),
    ...(since === undefined ? [] : [sql`l.timestamp >= ${since}`]),
    ...(until === undefined ? [] : [sql`l.timestamp < ${until}`]),
  ];
  return sql.join(all, sql` AND `);
}
