import { createHash } from 'node:crypto';
import type { Client } from '@temporalio/client';
import { backgroundQueue } from '../domain/task-queues.ts';
import type { GatheredCall, gathering } from '../workflows/gathering.ts';
import { gatherCall } from '../workflows/messages.ts';

/** Hands a call to the workflow that gathers those of its provider, model and keys, and starts that if there is none. */
export async function gather(client: Client, taskQueue: string, call: GatheredCall): Promise<void> {
  const { target, keyScope } = call;
  const kind = JSON.stringify([taskQueue, target.provider, target.model, keyScope?.virtualKeyId, keyScope?.team]);
  const id = createHash('sha256').update(kind).digest('hex').slice(0, 16);
  await client.workflow.signalWithStart<typeof gathering, [GatheredCall]>('gathering', {
    workflowId: `gathering-${target.provider}-${target.model}-${id}`,
    taskQueue: backgroundQueue(taskQueue),
    signal: gatherCall,
    signalArgs: [call],
    staticSummary: `Calls to ${target.provider}/${target.model} that wait for others`,
  });
}
