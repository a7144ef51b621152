import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import { ParentClosePolicy, startChild, workflowInfo } from '@temporalio/workflow';
import { interactiveQueue } from '../domain/task-queues.ts';

/**
 * Starts a workflow for each id, under that id. They go on by themselves, so that the one whose doing they tell of
 * closes at once.
 */
export async function announce(
  workflow: (id: string) => Promise<string>,
  ids: readonly string[],
  staticSummary: string,
): Promise<void> {
  for (const id of ids) {
    try {
      await startChild(workflow, {
        args: [id],
        workflowId: id,
        // Receivers that do not answer must not take the slots of calls.
        taskQueue: interactiveQueue(workflowInfo().taskQueue),
        parentClosePolicy: ParentClosePolicy.ABANDON,
        staticSummary,
      });
    } catch (error) {
      // This workflow was reset; the announcement is on its way already.
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    }
  }
}
