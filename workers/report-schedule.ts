import {
  type CalendarSpec,
  Client,
  ScheduleAlreadyRunning,
  ScheduleNotFoundError,
  type ScheduleOptions,
  ScheduleOverlapPolicy,
} from '@temporalio/client';
import type { Logger } from 'pino';
import type { GatewayConfig } from '../config/gateway-schema.ts';
import type { ReportPeriod } from '../domain/report-period.ts';
import { SEARCH_ATTRIBUTES } from '../workflows/search-attributes.ts';
import type { TemporalConnection } from './connection.ts';

/** When a period is reported (UTC): half an hour after its end, when its last requests are settled. */
const CALENDARS: Readonly<Record<ReportPeriod, CalendarSpec>> = {
  daily: { hour: 0, minute: 30 },
  weekly: { dayOfWeek: 'MONDAY', hour: 0, minute: 30 },
  monthly: { dayOfMonth: 1, hour: 0, minute: 30 },
};

/**
 * Brings the schedule of cost reports to what the config says; every worker does so when it starts. A gateway without
 * the permission to keep schedules works all the same.
 */
export async function ensureReportSchedule(
  { connection, namespace, searchable }: TemporalConnection,
  taskQueue: string,
  wanted: GatewayConfig['reports']['schedule'],
  logger: Logger,
): Promise<void> {
  const { schedule: schedules } = new Client({ connection, namespace });
  const scheduleId = `${taskQueue}-cost-report`;
  try {
    if (wanted === 'off') return await schedules.getHandle(scheduleId).delete();
    const { spec, action, policies } = optionsFor(scheduleId, taskQueue, wanted, searchable);
    try {
      await schedules.create({ scheduleId, spec, action, policies });
    } catch (error) {
      if (!(error instanceof ScheduleAlreadyRunning)) throw error;
      // Whether an operator paused it is kept.
      await schedules.getHandle(scheduleId).update(({ state }) => ({ spec, action, policies, state }));
    }
  } catch (error) {
    if (error instanceof ScheduleNotFoundError) return;
    logger.warn({ err: error }, 'The schedule of cost reports cannot be kept; make them with POST /api/v1/reports');
  }
}

const optionsFor = (scheduleId: string, taskQueue: string, period: ReportPeriod, searchable: boolean) =>
  ({
    spec: { calendars: [{ ...CALENDARS[period], comment: `${period} cost report` }], timezone: 'UTC' },
    policies: { overlap: ScheduleOverlapPolicy.BUFFER_ALL, catchupWindow: '30 days' },
    action: {
      type: 'startWorkflow',
      workflowType: 'costReport',
      workflowId: scheduleId,
      taskQueue,
      args: [{ period }],
      staticSummary: `${period} cost report`,
      ...(searchable && { typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.report, value: period }] }),
    },
  }) satisfies Partial<ScheduleOptions>;
