import { CancelledFailure, Context } from '@temporalio/activity';
import { CallFailed } from '../../calls/call-failed.ts';
import type { AgentDefinition } from '../../domain/agent.ts';
import { HoldfastError } from '../../domain/errors.ts';
import type { RemoteTask, ToolCallToMake } from '../../domain/pipeline-run.ts';
import type { AddressPolicy } from '../address-policy.ts';
import { toFailure } from '../failures.ts';
import { askForText, type TextAnswer } from '../text-answer.ts';
import { argumentProblem } from '../tools/arguments.ts';
import { callHttpTool, withoutSecrets } from '../tools/http-tool.ts';
import { isWorthAnother, toToolText } from '../tools/tool-result.ts';
import { failing, PipelineContext, type PipelineDeps } from './context.ts';

export interface OutwardDeps extends PipelineDeps {
  /** What tools and remote agents may be connected to at. */
  readonly agentAddresses: AddressPolicy;
}

const HEARTBEAT_MS = 1_000;
/** The longest time another side can ask for between two requests. */
const MAX_RETRY_AFTER_MS = 10 * 60_000;

/** Calls of tools and remote agents. */
export function createOutwardActivities(deps: OutwardDeps) {
  const { bodies, agentAddresses: addresses } = deps;
  const context = new PipelineContext(deps);

  return {
    /**
     * Makes a tool call and stores what the model is told of it. Fails where another request may be answered otherwise.
     */
    callTool: ({
      runId,
      step,
      turn,
      definitionRef,
      responseRef,
      callId,
      payloadRef,
    }: ToolCallToMake): Promise<string> =>
      alive((signal) =>
        failing(async () => {
          await context.open(runId);
          const { name, arguments: given } = (await context.toolCall(responseRef, callId)).function;
          const tool = (await context.promptAgent(definitionRef)).tools.find((one) => one.name === name);
          const say = (content: string) => bodies.store({ content });
          if (!tool) return say(`There is no tool '${name}'.`);
          const args = toArguments(payloadRef === undefined ? given : await context.content(payloadRef));
          const problem = args ? argumentProblem(tool, args) : 'The arguments are not a JSON object.';
          if (!args || problem !== undefined) return say(`The call was not made. ${problem}`);
          const idempotencyKey = `${runId}.${step}.${turn}.${callId}`;
          const answer = await callHttpTool(tool, args, { idempotencyKey, addresses, signal });
          if (isWorthAnother(answer) && Context.current().info.attempt < tool.maxAttempts) {
            throw again(`The tool '${name}'`, answer);
          }
          return say(toToolText(answer));
        }),
      ),

    /** Asks a remote agent and stores its answer. */
    callRemoteAgent: ({ runId, step, inputRef, definitionRef, messages }: RemoteTask): Promise<string> =>
      alive((signal) =>
        failing(async () => {
          await context.open(runId);
          const agent = await context.body<AgentDefinition>(definitionRef);
          if (agent.kind !== 'remote') throw new HoldfastError('gateway_internal', 'The agent is not a remote agent.');
          const body = JSON.stringify({
            run_id: runId,
            step,
            input: await context.content(inputRef),
            messages: await Promise.all(messages.map((id) => context.received(id))),
          });
          const headers = {
            'content-type': 'application/json',
            ...agent.headers,
            'idempotency-key': `${runId}.${step}`,
          };
          const request = { url: agent.url, method: 'POST', headers, body } as const;
          const answer = await askForText(request, { timeoutMs: agent.timeoutMs, addresses, signal });
          if (answer.outcome === 'answered' && answer.status >= 200 && answer.status <= 299) {
            return bodies.store({ content: toOutput(withoutSecrets(answer.text, agent)) });
          }
          const last = !isWorthAnother(answer) || Context.current().info.attempt >= agent.maxAttempts;
          throw last ? failure('The agent', answer) : again('The agent', answer);
        }),
      ),
  };
}

/** Heartbeats while it works, and gives up when its run is cancelled or its worker stops. */
async function alive<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const context = Context.current();
  const heartbeat = setInterval(() => context.heartbeat(), HEARTBEAT_MS);
  try {
    return await work(context.cancellationSignal);
  } catch (error) {
    if (!context.cancellationSignal.aborted) throw error;
    if (context.cancellationDetails?.cancelRequested) throw new CancelledFailure('The call was cancelled.');
    throw toFailure(new HoldfastError('gateway_unavailable', 'The worker stopped during this call.'), 0);
  } finally {
    clearInterval(heartbeat);
  }
}

const MIN_DELAY_MS = 1_000;
const MAX_DELAY_MS = 60_000;

/** Has Temporal make another request after a while. */
function again(who: string, answer: TextAnswer): CallFailed {
  const asked = answer.outcome === 'answered' ? (answer.retryAfterMs ?? 0) : 0;
  const delay = Math.min(MIN_DELAY_MS * 2 ** (Context.current().info.attempt - 1), MAX_DELAY_MS);
  return new CallFailed(failure(who, answer), Math.max(delay, Math.min(asked, MAX_RETRY_AFTER_MS)));
}

/** What they said stays out: errors are shown to more people than the run's content. */
function failure(who: string, answer: TextAnswer): HoldfastError {
  if (answer.outcome === 'answered')
    return new HoldfastError('provider_server_error', `${who} answered HTTP ${answer.status}.`);
  if (answer.outcome === 'refused')
    return new HoldfastError('provider_invalid_request', `${who} was not asked. ${answer.reason}`);
  return new HoldfastError('provider_network', `${who} did not answer (${answer.reason}).`);
}

function toArguments(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text || '{}');
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

/** An agent answers JSON with an `output`, or just text. */
function toOutput(text: string): string {
  try {
    const { output } = JSON.parse(text) as { readonly output?: unknown };
    if (output === undefined) return text;
    return typeof output === 'string' ? output : JSON.stringify(output);
  } catch {
    return text;
  }
}
