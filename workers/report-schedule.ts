import {
  type CalendarSpec,
  ScheduleAlreadyRunning,
  ScheduleNotFoundError,
  ScheduleOverlapPolicy,
} from '@temporalio/client';
import type { ReportPeriod } from '../domain/report-period.ts';
import type { costReport } from '../workflows/cost-report.ts';
import { SEARCH_ATTRIBUTES } from '../workflows/search-attributes.ts';
import type { ScheduleOptions } from './schedules.ts';

/** When a period is reported (UTC): half an hour after its end, when its last requests are settled. */
const CALENDARS: Readonly<Record<ReportPeriod, CalendarSpec>> = {
  daily: { hour: 0, minute: 30 },
  weekly: { dayOfWeek: 'MONDAY', hour: 0, minute: 30 },
  monthly: { dayOfMonth: 1, hour: 0, minute: 30 },
};

/** Brings the schedule of cost reports to what the config says. */
export async function ensureReports(options: ScheduleOptions): Promise<void> {
  const { client, taskQueue, reports } = options;
  const scheduleId = `${taskQueue}-cost-report`;
  if (reports === 'off') {
    await client.schedule
      .getHandle(scheduleId)
      .delete()
      .catch((error: unknown) => {
        if (!(error instanceof ScheduleNotFoundError)) throw error;
      });
    return;
  }
  const wanted = scheduleOf(options, scheduleId, reports);
  try {
    await client.schedule.create({ scheduleId, ...wanted });
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error;
    // Whether an operator paused it is kept.
    await client.schedule.getHandle(scheduleId).update(({ state }) => ({ ...wanted, state }));
  }
}

const scheduleOf = ({ taskQueue, searchable }: ScheduleOptions, scheduleId: string, period: ReportPeriod) => ({
  spec: { calendars: [{ ...CALENDARS[period], comment: `${period} cost report` }], timezone: 'UTC' },
  // What was missed in an outage is made up for, one report after the other.
  policies: { overlap: ScheduleOverlapPolicy.BUFFER_ALL, catchupWindow: '30 days' as const },
  action: {
    type: 'startWorkflow' as const,
    workflowType: 'costReport' satisfies typeof costReport.name,
    workflowId: scheduleId,
    taskQueue,
    args: [{ period }],
    staticSummary: `${period} cost report`,
    ...(searchable && { typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.report, value: period }] }),
  },
});
