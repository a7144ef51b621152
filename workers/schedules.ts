import { type Client, ScheduleAlreadyRunning, ScheduleOverlapPolicy } from '@temporalio/client';
import type { ReportPeriod } from '../domain/report-period.ts';
import type { sweep } from '../workflows/sweep.ts';
import { ensureReports } from './report-schedule.ts';

export interface ScheduleOptions {
  readonly client: Client;
  readonly taskQueue: string;
  /** Seconds between two sweeps; 0 for none. */
  readonly sweepIntervalSeconds: number;
  /** How often costs are reported. */
  readonly reports: ReportPeriod | 'off';
  /** Whether the namespace knows the gateway's search attributes. */
  readonly searchable: boolean;
}

/** Makes sure that what runs on a schedule does. Safe to call from every worker at every start. */
export async function ensureSchedules(options: ScheduleOptions): Promise<void> {
  await ensureSweep(options);
  await ensureReports(options);
}

async function ensureSweep({ client, taskQueue, sweepIntervalSeconds }: ScheduleOptions): Promise<void> {
  if (sweepIntervalSeconds === 0) return;
  const scheduleId = `${taskQueue}-sweep`;
  const spec = { intervals: [{ every: sweepIntervalSeconds * 1000 }] };
  try {
    await client.schedule.create({
      scheduleId,
      spec,
      policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '1 minute' },
      action: {
        type: 'startWorkflow',
        workflowType: 'sweep' satisfies typeof sweep.name,
        taskQueue,
        workflowId: scheduleId,
        staticSummary: 'Free what was left reserved, compare counters with the ledger',
      },
    });
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error;
    await client.schedule.getHandle(scheduleId).update((current) => ({ ...current, spec }));
  }
}
