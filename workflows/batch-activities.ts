import { proxyActivities, workflowInfo } from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';
import { interactiveQueue } from '../domain/task-queues.ts';
import type { Quota } from './model-call.ts';

/**
 * What happens around the calls of a batch, while others of them go on. Not local activities: a replay hands the ends of
 * those out in other groups than they came in, and what goes on side by side then takes another course.
 */
export const batchActivities = () =>
  proxyActivities<Quota & Pick<Activities, 'prepareLines' | 'finishLines' | 'recordState'>>({
    // On the background queue they would wait for slots that the calls hold.
    taskQueue: interactiveQueue(workflowInfo().taskQueue),
    startToCloseTimeout: '1 minute',
    retry: { initialInterval: '100 milliseconds', maximumInterval: '5 seconds' },
  });
