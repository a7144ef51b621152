import { CancellationScope, continueAsNew, isCancellation, proxyActivities, sleep } from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';
import type { ErrorInfo } from '../domain/errors.ts';
import type { NanoDollars } from '../domain/money.ts';
import { BatchControls, type CarriedControls } from './batch-controls.ts';
import { announceBudgetAlerts } from './budget-alert.ts';
import { LinePump, type LinesEnd } from './line-pump.ts';
import { answerByProviders } from './provider-batches.ts';
import { recordState } from './run-controls.ts';

export interface BatchInput {
  readonly batchId: string;
  /** Milliseconds since the epoch. */
  readonly deadlineAt: number;
  /** The most all calls of the batch may cost. */
  readonly maxCostNanos?: NanoDollars;
  /** Whether the providers' own batch APIs are tried first. */
  readonly native?: boolean;
  /** What an earlier run of the workflow left to this one. */
  readonly carried?: CarriedControls;
}

const { readBatchInput } = proxyActivities<Pick<Activities, 'readBatchInput'>>({
  startToCloseTimeout: '30 minutes',
  heartbeatTimeout: '30 seconds',
  retry: { initialInterval: '1 second', maximumInterval: '30 seconds' },
  summary: 'input file',
});

const { closeLines } = proxyActivities<Pick<Activities, 'closeLines'>>({
  startToCloseTimeout: '10 minutes',
  retry: { initialInterval: '1 second', maximumInterval: '30 seconds' },
  summary: 'lines that are left',
});

const { writeBatchFiles } = proxyActivities<Pick<Activities, 'writeBatchFiles'>>({
  startToCloseTimeout: '2 hours',
  heartbeatTimeout: '1 minute',
  retry: { initialInterval: '1 second', maximumInterval: '30 seconds' },
  summary: 'output and error file',
});

/** A batch: read its lines, make a model call for each, write down what they came to. */
export async function batch(input: BatchInput): Promise<void> {
  const controls = new BatchControls(input);
  const refused = input.carried ? undefined : await readInput(input);
  if (refused && 'code' in refused) {
    return CancellationScope.nonCancellable(() => recordState(input.batchId, 'failed', refused));
  }
  const ended = refused?.ended ?? (await answerLines(input, controls));
  if (ended === 'unfinished') return continueAsNew<typeof batch>({ ...input, carried: controls.carry() });
  await CancellationScope.nonCancellable(() => conclude(input, ended));
}

/** Returns why there is nothing to call, if there is not. */
async function readInput({ batchId }: BatchInput): Promise<ErrorInfo | { readonly ended: 'cancelled' } | undefined> {
  try {
    const problem = await readBatchInput(batchId);
    return problem === undefined
      ? undefined
      : { code: 'caller_invalid_request', message: problem, param: 'input_file_id' };
  } catch (error) {
    if (isCancellation(error)) return { ended: 'cancelled' };
    throw error;
  }
}

/** The lines outlive a cancellation for as long as they are given to finish. */
function answerLines({ batchId, deadlineAt, native, carried }: BatchInput, controls: BatchControls): Promise<LinesEnd> {
  const workflow = CancellationScope.current();
  return CancellationScope.nonCancellable(async () => {
    workflow.cancelRequested.catch(() => controls.stop('cancelled'));
    const clock = new CancellationScope();
    void clock
      .run(() => sleep(Math.max(1, deadlineAt - Date.now()), { summary: 'deadline' }))
      .then(
        () => controls.stop('expired'),
        () => {},
      );
    const state = controls.keepState();
    const left = !native || carried?.byProviders || (await answerByProviders(batchId, controls));
    controls.byProviders = left;
    const ended = left ? await new LinePump(batchId, controls).run() : 'unfinished';
    clock.cancel();
    controls.end();
    await state;
    return ended;
  });
}

const ERRORS_OF_ENDS: Readonly<Record<'cancelled' | 'expired', ErrorInfo>> = {
  cancelled: { code: 'gateway_cancelled', message: 'The batch was cancelled.' },
  expired: { code: 'gateway_deadline_exceeded', message: 'The batch did not finish before its deadline.' },
};

async function conclude({ batchId }: BatchInput, ended: Exclude<LinesEnd, 'unfinished'>): Promise<void> {
  if (ended !== 'answered') await announceBudgetAlerts(await closeLines(batchId, ended));
  await writeBatchFiles(batchId);
  if (ended === 'answered') return recordState(batchId, 'completed');
  await recordState(batchId, ended === 'cancelled' ? 'cancelled' : 'failed', ERRORS_OF_ENDS[ended]);
}
