import { proxyActivities, workflowInfo } from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';
import { interactiveQueue } from '../domain/task-queues.ts';
import type { Quota } from './model-call.ts';

/**
 * What happens around the calls of a batch, while others of them go on. Not local activities: a replay hands the ends of
 * those out in other groups than they came in, and what goes on side by side then takes another course.
 */
export const batchActivities = () => {
  // On the background queue they would wait for slots that the calls hold.
  const taskQueue = interactiveQueue(workflowInfo().taskQueue);
  const retry = { initialInterval: '100 milliseconds', maximumInterval: '5 seconds' } as const;
  const { prepareLines } = proxyActivities<Pick<Activities, 'prepareLines'>>({
    taskQueue,
    startToCloseTimeout: '1 minute',
    retry,
    summary: 'next lines',
  });
  const records = proxyActivities<Quota & Pick<Activities, 'finishLines' | 'recordState'>>({
    taskQueue,
    // Milliseconds each; what a dead worker took with it is done again after this.
    startToCloseTimeout: '20 seconds',
    retry,
  });
  return { prepareLines, records };
};
