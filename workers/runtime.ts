import { type LogLevel, type LogMetadata, makeTelemetryFilterString, Runtime } from '@temporalio/worker';
import type { Logger } from 'pino';

const PINO_LEVELS = { TRACE: 'trace', DEBUG: 'debug', INFO: 'info', WARN: 'warn', ERROR: 'error' } as const;

/** Sends the SDK's and the workflows' log lines to the process's logger. Once per process, before anything else. */
export function installRuntime(logger: Logger): void {
  const log = (level: LogLevel, message: string, meta?: LogMetadata) => {
    // The SDK's own chatter is for debugging; what workflows and activities say keeps its level.
    const ours = meta?.sdkComponent === 'workflow' || meta?.sdkComponent === 'activity';
    const lifecycle = ours && /^(Workflow|Activity) (started|completed|failed|cancelled|start|continued)/.test(message);
    const shown = level === 'INFO' && (!ours || lifecycle) ? 'DEBUG' : level;
    logger[PINO_LEVELS[shown]](describe(meta), message);
  };
  Runtime.install({
    logger: {
      log,
      trace: (message, meta) => log('TRACE', message, meta),
      debug: (message, meta) => log('DEBUG', message, meta),
      info: (message, meta) => log('INFO', message, meta),
      warn: (message, meta) => log('WARN', message, meta),
      error: (message, meta) => log('ERROR', message, meta),
    },
    telemetryOptions: { logging: { forward: {}, filter: makeTelemetryFilterString({ core: 'WARN', other: 'ERROR' }) } },
    // The composition roots decide the order of a shutdown.
    shutdownSignals: [],
  });
}

/** The fields that help to find a run; the SDK adds many more. */
function describe(meta: LogMetadata = {}): object {
  const { workflowId, workflowType, activityType, attempt, error, event, from, to } = meta;
  const failure = typeof error === 'string' ? { error } : { err: error };
  return { run: workflowId, workflow: workflowType, activity: activityType, attempt, event, from, to, ...failure };
}
