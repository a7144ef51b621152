import { CancellationScope, condition, workflowInfo } from '@temporalio/workflow';
import { type LineEnd, lineEndOf, type PreparedLine } from '../domain/batch.ts';
import { batchActivities } from './batch-activities.ts';
import type { BatchControls } from './batch-controls.ts';
import { errorInfoOf } from './failures.ts';
import { modelCall } from './model-call.ts';

/** `unfinished`: the history has become long enough, and nothing is under way. */
export type LinesEnd = 'answered' | 'unfinished' | 'cancelled' | 'expired';

/** Lines under way at once: what one worker's `background.max_calls` allows by default. */
const CONCURRENCY = 100;
/**
 * Lines that have not been let in by their limits and budgets. Each asks again every few seconds, at three events of
 * history a time, so those behind them need not.
 */
const UNADMITTED = 8;
/** Lines prepared at once. Each is about 2 KB of history, and an activity's result may have 2 MB. */
const CHUNK = 100;
/** Lines prepared and not begun, below which the next ones are prepared. */
const AHEAD = 50;
/**
 * What a history may come to before the next run takes over; what is prepared and under way adds some 2,000 events to it.
 * Temporal warns at 10,240 events and 10 MB. A line is about 11 events and 3.5 KB, and more where it waits or falls back.
 */
const MAX_EVENTS = 5_000;
const MAX_BYTES = 3_000_000;
/** Ends written down by one statement. */
const ENDS_AT_ONCE = 200;
/** Milliseconds that the calls of a cancelled batch get to finish: what they cost has to be paid either way. */
const CANCEL_GRACE_MS = 10_000;

/** Keeps as many lines of a batch under way as it may. */
export class LinePump {
  private readonly prepared: PreparedLine[] = [];
  private readonly ended: LineEnd[] = [];
  private readonly lines = new CancellationScope();
  /** The last line that was asked for; undefined once there are no more. */
  private after: number | undefined = 0;
  private underWay = 0;
  private preparing = false;
  private recording = false;
  private readonly activities = batchActivities();
  private readonly batchId: string;
  private readonly controls: BatchControls;

  constructor(batchId: string, controls: BatchControls) {
    this.batchId = batchId;
    this.controls = controls;
  }

  async run(): Promise<LinesEnd> {
    void condition(() => this.controls.stopped === 'cancelled').then(() => this.cutOff());
    while (!this.idle) {
      if (this.needsLines) void this.prepare();
      while (this.mayBegin) this.begin();
      if (this.unaffordable) this.controls.refuseOverCap();
      await condition(() => this.needsLines || this.mayBegin || this.unaffordable || this.idle);
    }
    if (this.controls.stopped) return this.controls.stopped;
    return this.after === undefined && this.prepared.length === 0 ? 'answered' : 'unfinished';
  }

  private async cutOff(): Promise<void> {
    if (!(await condition(() => this.underWay === 0, CANCEL_GRACE_MS))) this.lines.cancel();
  }

  private get needsLines(): boolean {
    return (
      !this.preparing && this.after !== undefined && !this.full && !this.controls.held && this.prepared.length < AHEAD
    );
  }

  private get mayBegin(): boolean {
    const [next] = this.prepared;
    return (
      next !== undefined &&
      !this.controls.held &&
      this.underWay < CONCURRENCY &&
      this.controls.unadmitted < UNADMITTED &&
      this.controls.affords(next.call)
    );
  }

  /** What the batch may still cost does not cover the next line, and no line under way will change that. */
  private get unaffordable(): boolean {
    const [next] = this.prepared;
    return next !== undefined && !this.controls.held && this.quiet && !this.controls.affords(next.call);
  }

  private get quiet(): boolean {
    return this.underWay === 0 && !this.preparing && !this.recording;
  }

  private get idle(): boolean {
    if (!this.quiet) return false;
    return (
      this.controls.stopped !== undefined || (this.prepared.length === 0 && (this.after === undefined || this.full))
    );
  }

  private get full(): boolean {
    const { historyLength, historySize, continueAsNewSuggested } = workflowInfo();
    return continueAsNewSuggested || historyLength > MAX_EVENTS || historySize > MAX_BYTES;
  }

  private async prepare(): Promise<void> {
    this.preparing = true;
    const range = { after: this.after ?? 0, limit: CHUNK };
    const { lines, after, spentNanos, cancelling } = await this.activities.prepareLines(this.batchId, range);
    // Before the first line, what providers' own batches cost; it only grows.
    this.controls.paid([], spentNanos);
    this.prepared.push(...lines);
    this.after = after;
    this.preparing = false;
    if (cancelling) this.controls.stop('cancelled');
  }

  private begin(): void {
    const { n, call } = this.prepared.shift() as PreparedLine;
    this.underWay += 1;
    const controls = this.controls.ofLine(n, call);
    void this.lines
      .run(() => modelCall(call, controls))
      .then(
        (): LineEnd => ({ n, state: 'completed' }),
        (error: unknown) => lineEndOf(n, errorInfoOf(error)),
      )
      .then((end) => {
        controls.leave();
        this.ended.push(end);
        this.underWay -= 1;
        if (!this.recording) void this.record();
      });
  }

  private async record(): Promise<void> {
    this.recording = true;
    while (this.ended.length > 0) {
      const ends = this.ended.splice(0, ENDS_AT_ONCE);
      const spentNanos = await this.activities.records.finishLines(this.batchId, ends);
      this.controls.paid(ends, spentNanos);
    }
    this.recording = false;
  }
}
