import { expect, it } from 'vitest';
import { forecastMonth } from '../../domain/forecast.ts';

it('a month goes on as it went so far', () => {
  const { nanos, until } = forecastMonth(1_000, new Date('2026-11-11T00:00:00Z'));
  expect(nanos).toBe(3_000);
  expect(until.toISOString()).toBe('2026-12-01T00:00:00.000Z');
});

it('the first hours of a month count as a day', () => {
  expect(forecastMonth(100, new Date('2026-11-01T00:00:01Z')).nanos).toBe(3_000);
});
