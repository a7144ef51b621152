import { stringify } from 'csv-stringify/sync';
import type { CostGroup, CostReport } from '../domain/costs.ts';

const COLUMNS = [
  'section',
  'group',
  'requests',
  'failures',
  'prompt_tokens',
  'completion_tokens',
  'cached_tokens',
  'cost_usd',
  'billed_usd',
  'unknown_usd',
  'cache_savings_usd',
] as const satisfies readonly (keyof CostGroup | 'section')[];

/** A report as a table: the total, then one line for each group of each section. */
export function toCsv({ data }: CostReport): string {
  const section = (name: string, groups: readonly CostGroup[]) =>
    groups.map((group) => ({ section: name, ...group, group: group.group ?? '' }));
  const rows = [
    { section: 'total', group: '', ...data.total },
    ...section('organisation', data.by_organisation),
    ...section('team', data.by_team),
    ...section('model', data.by_model),
    ...section('provider', data.by_provider),
    ...section('key', data.top_keys),
  ];
  // Names are made by callers; a spreadsheet must not take one for a formula.
  return stringify(rows, { header: true, columns: [...COLUMNS], escape_formulas: true });
}
