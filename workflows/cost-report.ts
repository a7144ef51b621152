import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common';
import { proxyActivities, workflowInfo } from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';
import { finishedAt, type ReportPeriod, rangeAt, reportId } from '../domain/report-period.ts';

export interface CostReportInput {
  readonly period: ReportPeriod;
  /** An instant of the period; by default the last finished one is reported. */
  readonly since?: string;
}

/** Set by Temporal on runs that a schedule started. */
const SCHEDULED_AT = defineSearchAttributeKey('TemporalScheduledStartTime', SearchAttributeType.DATETIME);

/** The report of one period, stored once. Returns its id. */
export async function costReport({ period, since }: CostReportInput): Promise<string> {
  const range = since === undefined ? finishedAt(period, scheduledAt()) : rangeAt(period, new Date(since));
  const { makeCostReport } = proxyActivities<Pick<Activities, 'makeCostReport'>>({
    summary: reportId(range),
    startToCloseTimeout: '2 minutes',
    retry: { initialInterval: '1 second', maximumInterval: '1 minute' },
  });
  await makeCostReport(range);
  return reportId(range);
}

/** A run that comes late, after an outage, is still about the period it was scheduled for. */
function scheduledAt(): Date {
  const { typedSearchAttributes, startTime } = workflowInfo();
  return typedSearchAttributes.get(SCHEDULED_AT) ?? startTime;
}
