import { expect, it } from 'vitest';
import { toCsv } from '../../api/report-csv.ts';

it('a report’s table quotes what callers named, and lets none of it be a formula', () => {
  const figures = {
    requests: 1,
    failures: 0,
    prompt_tokens: 2,
    completion_tokens: 3,
    cached_tokens: 0,
    cost_usd: 0.5,
    billed_usd: 0.75,
    unknown_usd: 0,
    cache_savings_usd: 0,
  };
  const csv = toCsv({
    id: 'daily-2026-01-01',
    period: 'daily',
    since: new Date('2026-01-01'),
    until: new Date('2026-01-02'),
    created_at: new Date('2026-01-02'),
    data: {
      total: { ...figures, markup_usd: 0.25 },
      change: { cost_usd: 0, cost_percent: null, billed_usd: 0, requests: 0 },
      by_organisation: [{ group: null, ...figures }],
      by_team: [{ group: 'red, "blue"', ...figures }],
      by_model: [{ group: '=1+1', ...figures }],
      by_provider: [],
      top_keys: [],
    },
  });
  expect(csv.split('\n')).toEqual([
    'section,group,requests,failures,prompt_tokens,completion_tokens,cached_tokens,cost_usd,billed_usd,unknown_usd,cache_savings_usd',
    'total,,1,0,2,3,0,0.5,0.75,0,0',
    'organisation,,1,0,2,3,0,0.5,0.75,0,0',
    'team,"red, ""blue""",1,0,2,3,0,0.5,0.75,0,0',
    "model,'=1+1,1,0,2,3,0,0.5,0.75,0,0",
    '',
  ]);
});
