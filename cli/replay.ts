import { Client, WorkflowNotFoundError } from '@temporalio/client';
import { Worker } from '@temporalio/worker';
import { ConfigError } from '../config/yaml-source.ts';
import { openConnection } from '../workers/connection.ts';
import { installRuntime } from '../workers/runtime.ts';
import { workflowBundle } from '../workers/worker.ts';
import { createLogger } from './logger.ts';
import { loadEnvironment } from './options.ts';

/** `holdfast replay`: says whether this code would do what the history of a run says. */
export async function replay(run: string): Promise<void> {
  const { env, settings } = loadEnvironment();
  // The one line this prints says it all.
  installRuntime(createLogger('silent'));
  const address = settings.temporalAddress ?? `127.0.0.1:${settings.embeddedTemporalPort}`;
  const { connection, namespace } = await openConnection(address, env);
  try {
    const handle = new Client({ connection, namespace }).workflow.getHandle(run);
    const { status } = await handle.describe();
    const history = await handle.fetchHistory();
    await Worker.runReplayHistory({ workflowBundle: workflowBundle() }, history, run).catch((error: Error) => {
      throw new ConfigError(`${run} does not replay: ${error.message}`);
    });
    process.stdout.write(`${run} replays: ${history.events?.length} events, ${status.name.toLowerCase()}\n`);
  } catch (error) {
    if (!(error instanceof WorkflowNotFoundError)) throw error;
    throw new ConfigError(`Temporal at ${address} knows no run '${run}' in namespace '${namespace}'.`);
  } finally {
    await connection.close();
  }
}
