import type { RunState } from './run-state.ts';
import type { WebhookEvent } from './webhook.ts';

/** Who is told about a run, and of what. */
export interface RunWebhook {
  readonly url: string;
  /** `whsec_` and base64. */
  readonly secret: string;
  readonly events: readonly WebhookEvent[];
}

/** What a run's webhook is told when the run comes into a state. */
export const STATE_EVENTS: Readonly<Partial<Record<RunState, WebhookEvent>>> = {
  completed: 'run.completed',
  failed: 'run.failed',
  cancelled: 'run.cancelled',
  input_required: 'run.input_required',
  budget_exceeded: 'run.budget_exceeded',
};
