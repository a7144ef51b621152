import type { ChoiceDelta, ModelResult } from '../chat.ts';
import type { ErrorInfo } from '../errors.ts';
import type { ResponseMetadata } from '../stream-item.ts';
import type { ItemEvent, ItemStreamEvent } from './item-events.ts';
import { answerOf, incompleteReasonOf } from './output-items.ts';
import { answeredResponse, failedResponse, pendingResponse, type ResponseObject } from './response-object.ts';
import type { ResponseSeed } from './seed.ts';
import { ShownAnswer } from './shown-answer.ts';

/** Events about the whole response. */
export interface LifecycleEvent {
  readonly type:
    | 'response.created'
    | 'response.queued'
    | 'response.in_progress'
    | 'response.completed'
    | 'response.incomplete'
    | 'response.failed';
  readonly response: ResponseObject;
  readonly sequence_number: number;
}

export type ResponseEvent = LifecycleEvent | ItemStreamEvent;

/**
 * Folds a run's log into the events of its response. The same seed and the same calls give the same events, numbers and
 * ids included, so a stream can be rendered again from any copy of the log and cut anywhere.
 */
export class ResponseEvents {
  private readonly seed: ResponseSeed;
  private sequence = 0;
  private isRunning: boolean;
  private shown: ShownAnswer;

  constructor(seed: ResponseSeed) {
    this.seed = seed;
    this.isRunning = !seed.background;
    this.shown = new ShownAnswer(seed.id, 0);
  }

  created(): ResponseEvent[] {
    const { background } = this.seed;
    const response = pendingResponse(this.seed, background ? 'queued' : 'running');
    return [
      this.lifecycle('response.created', response),
      this.lifecycle(background ? 'response.queued' : 'response.in_progress', response),
    ];
  }

  /** The run has left the queue. What comes of it says so too, so the call may be left out. */
  running(): ResponseEvent[] {
    if (this.isRunning) return [];
    this.isRunning = true;
    return [this.lifecycle('response.in_progress', pendingResponse(this.seed, 'running'))];
  }

  delta(choices: readonly ChoiceDelta[]): ResponseEvent[] {
    const answer = choices.filter(({ index }) => index === 0);
    return [...this.running(), ...this.numbered(answer.flatMap((choice) => this.shown.delta(choice)))];
  }

  /** The attempt that was shown died; what comes is another one's. */
  interrupted(): ResponseEvent[] {
    if (this.shown.empty) return [];
    const events = this.numbered(this.shown.abandon());
    this.shown = new ShownAnswer(this.seed.id, this.shown.count);
    return events;
  }

  /** Shows what of the result has not been shown. A result that does not go on from what was shown starts over. */
  completed(result: ModelResult, metadata: ResponseMetadata): ResponseEvent[] {
    const choice = answerOf(result);
    const reason = incompleteReasonOf(choice);
    const events = this.running();
    if (!choice || !this.shown.beginsLike(choice)) events.push(...this.interrupted());
    if (choice) events.push(...this.numbered(this.shown.rest(choice)));
    events.push(...this.numbered(this.shown.finish(reason ? 'incomplete' : 'completed')));
    const response = answeredResponse(this.seed, result, metadata, this.shown.before);
    return [...events, this.lifecycle(reason ? 'response.incomplete' : 'response.completed', response)];
  }

  failed(error: ErrorInfo): ResponseEvent[] {
    return [...this.interrupted(), this.lifecycle('response.failed', failedResponse(this.seed, error))];
  }

  private lifecycle(type: LifecycleEvent['type'], response: ResponseObject): LifecycleEvent {
    return { type, response, sequence_number: this.sequence++ };
  }

  private numbered(events: readonly ItemEvent[]): ItemStreamEvent[] {
    return events.map((event) => ({ ...event, sequence_number: this.sequence++ }));
  }
}
