import { CancellationScope, isCancellation } from '@temporalio/workflow';
import type { ParallelStep, Step } from '../../domain/pipeline.ts';
import { records } from '../pipeline/activities.ts';
import { Drained } from '../pipeline/drained.ts';
import type { PipelineRun } from '../pipeline/pipeline-run.ts';
import { finish, recorded } from '../pipeline/recorded.ts';

interface Output {
  readonly name: string;
  readonly ref: string;
}

/** Branches side by side, until enough of them have succeeded; then, if there is one, the step that merges them. */
export const parallel = (run: PipelineRun, step: ParallelStep, input: string): Promise<string> =>
  recorded(run, { step: step.name, pattern: step.pattern, input: { ref: input } }, async ({ inputRef }) => {
    const outputs = await new Race(run, step).run(inputRef);
    const { runId } = run;
    const joined = await records(`${step.name}: join`).joinOutputs({ runId, step: step.name, outputs });
    const outputRef = step.merge ? await run.perform(step.merge, joined) : joined;
    await finish(run, step.name, { outputRef });
    return outputRef;
  });

class Race {
  private readonly won: Output[] = [];
  private readonly queue: Step[];
  private readonly branches = new CancellationScope();
  private failed = 0;
  private drained: Drained | undefined;
  /** The first. */
  private failure: unknown;
  private readonly runs: PipelineRun;
  private readonly step: ParallelStep;

  constructor(run: PipelineRun, step: ParallelStep) {
    this.runs = run;
    this.step = step;
    this.queue = [...step.branches];
  }

  /** The outputs that count, in the order of the definition. Throws the first failure when too few succeed. */
  async run(inputRef: string): Promise<readonly Output[]> {
    const lanes = Math.min(this.step.maxConcurrency, this.queue.length);
    await this.branches.run(() => Promise.all(Array.from({ length: lanes }, () => this.lane(inputRef))));
    // Even where enough have succeeded: what the others left is for the next run to clear up.
    if (isCancellation(this.failure) || this.drained) throw isCancellation(this.failure) ? this.failure : this.drained;
    if (!this.enough) throw this.failure;
    const names = new Set(this.won.slice(0, this.step.quorum).map(({ name }) => name));
    return this.step.branches.flatMap(({ name }) =>
      names.has(name) ? this.won.filter((one) => one.name === name) : [],
    );
  }

  private get enough(): boolean {
    return this.won.length >= this.step.quorum;
  }

  private get decided(): boolean {
    return this.enough || this.failed > this.step.branches.length - this.step.quorum;
  }

  private async lane(inputRef: string): Promise<void> {
    for (let branch = this.next(); branch; branch = this.next()) {
      try {
        this.won.push({ name: branch.name, ref: await this.runs.perform(branch, inputRef) });
      } catch (error) {
        this.lost(error);
      }
      if (this.decided) this.branches.cancel();
    }
  }

  private next(): Step | undefined {
    const over = this.decided || this.drained || this.branches.consideredCancelled;
    return over ? undefined : this.queue.shift();
  }

  private lost(error: unknown): void {
    if (error instanceof Drained) {
      this.drained = error;
      return;
    }
    // Cancelled because the others decided it.
    if (this.decided) return;
    this.failure ??= error;
    if (!isCancellation(error)) this.failed += 1;
  }
}
