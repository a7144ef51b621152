import { type Client, WorkflowNotFoundError } from '@temporalio/client';
import type { RunPresence } from '../activities/sweep.ts';

/** Whether a workflow is under way, has ended, or never started. */
export async function presenceOf(client: Client, runId: string): Promise<RunPresence> {
  try {
    const { status } = await client.workflow.getHandle(runId).describe();
    return status.name === 'RUNNING' || status.name === 'CONTINUED_AS_NEW' ? 'running' : 'ended';
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return 'unknown';
    throw error;
  }
}
