import { DEFAULT_APPROVAL_TERMS } from '../../domain/approval.ts';
import { HoldfastError } from '../../domain/errors.ts';
import type { ModelCallResult } from '../../domain/model-call.ts';
import type { Pattern, SupervisorStep } from '../../domain/pipeline.ts';
import type { AgentTask, Answer, Conversation, PreparedTurn, TurnTerms } from '../../domain/pipeline-run.ts';
import { outward, records } from './activities.ts';
import type { PipelineRun } from './pipeline-run.ts';
import { finish, recorded } from './recorded.ts';
import { answerToolCalls } from './tool-calls.ts';

/** What a supervisor hands out to. */
export interface Hands {
  readonly workers: SupervisorStep['workers'];
  readonly maxRounds: number;
}

/** Lets an agent do a task. Returns its output, a body. */
export async function runAgent(run: PipelineRun, task: AgentTask, hands?: Hands): Promise<string> {
  const { step, choice, input, parent } = task;
  const before = run.conversation(step);
  const begins = !run.done.has(step) && !before;
  // Whatever it does first: a turn, or a call of a remote agent.
  if (begins) await run.step();
  const pattern: Pattern = hands ? 'supervisor' : 'single';
  // Messages that wait are for a turn that is prepared by itself.
  const firstTurn = begins && !run.hasMessages ? termsOf(run, step, hands, hands?.maxRounds === 1) : undefined;
  const begin = { step, pattern, choice, input, ...(parent && { parent }), ...(firstTurn && { firstTurn }) };
  return recorded(run, begin, async (begun) => {
    const { agent, inputRef } = begun;
    if (!agent) throw new HoldfastError('gateway_internal', 'The step has no agent.');
    if (agent.kind === 'remote') return askRemote(run, step, { agent, inputRef });
    if (before) return converse(run, before, hands);
    const talk = { step, agent, inputRef, turn: 1 };
    run.keep(talk);
    return converse(run, talk, hands, await takeTurn(run, talk, hands, begun.firstTurn));
  });
}

/**
 * A model with tools: asked until it has an answer that will do.
 * @param taken The turn that `begun` is at, if it was taken.
 */
async function converse(
  run: PipelineRun,
  begun: Conversation,
  hands: Hands | undefined,
  taken?: Turn,
): Promise<string> {
  const { step, agent, inputRef } = begun;
  const { definitionRef } = agent;
  let talk = begun;
  let turn = taken ?? (await nextTurn(run, talk, hands));
  for (;;) {
    const { requestId, result } = turn;
    const { responseRef, toolCalls = [] } = result;
    let answer: Answer = { requestId, responseRef, toolCalls, results: [] };
    if (toolCalls.length === 0) {
      const { outputRef, problemRef } = await finish(run, step, { responseRef, definitionRef });
      if (outputRef !== undefined) {
        run.forget(step);
        return outputRef;
      }
      answer = { ...answer, ...(problemRef && { problemRef }) };
    }
    talk = { step, agent, inputRef, turn: talk.turn + 1, answer };
    run.keep(talk);
    turn = await nextTurn(run, talk, hands);
  }
}

/** Deals with what the model asked for, and asks it again. */
async function nextTurn(run: PipelineRun, talk: Conversation, hands: Hands | undefined): Promise<Turn> {
  const maxTurns = maxTurnsOf(talk.agent, hands);
  // Before anything is done that a model asks for though it may not any more.
  if (talk.turn > maxTurns) throw new HoldfastError('policy_turn_limit', `No answer after ${maxTurns} turns.`);
  const answer = talk.answer && (await answerToolCalls(run, talk, talk.answer, hands?.workers ?? []));
  await run.step();
  return takeTurn(run, { ...talk, ...(answer && { answer }) }, hands, undefined);
}

const maxTurnsOf = ({ maxTurns = 1 }: Conversation['agent'], hands: Hands | undefined): number =>
  hands?.maxRounds ?? maxTurns;

function termsOf(run: PipelineRun, step: string, hands: Hands | undefined, last: boolean): TurnTerms {
  const maxCostNanos = run.cost.plan(step);
  return { last, ...(maxCostNanos !== undefined && { maxCostNanos }), ...(hands && { workers: hands.workers }) };
}

interface Turn {
  readonly requestId: string;
  readonly result: ModelCallResult;
}

/** @param ready The turn, if it is prepared. */
async function takeTurn(
  run: PipelineRun,
  talk: Conversation,
  hands: Hands | undefined,
  ready: PreparedTurn | undefined,
): Promise<Turn> {
  const { step, agent, turn } = talk;
  run.note(step, `${agent.name}, turn ${turn}`);
  const { call, spentNanos } = ready ?? (await prepareTurn(run, talk, hands));
  run.cost.spent(spentNanos, step);
  const { requestId, admission } = call;
  const { approveOverNanos } = agent;
  if (approveOverNanos !== undefined && admission.maxCostNanos > approveOverNanos) {
    const subject = { kind: 'model_call', requestId, maxCostNanos: admission.maxCostNanos } as const;
    const question = { step, key: `${step}.${turn}`, terms: DEFAULT_APPROVAL_TERMS, subject };
    const { approved } = await run.approvals.ask(question);
    if (!approved) {
      const error = {
        code: 'policy_approval_rejected',
        message: 'A call over its cost limit was not approved.',
      } as const;
      const ending = { requestId, limits: [], tokenDifference: 0, state: 'cancelled', error } as const;
      await records(`${step}: not approved`).settle(ending);
      throw HoldfastError.from(error);
    }
  }
  return { requestId, result: await run.call(step, call) };
}

function prepareTurn(run: PipelineRun, talk: Conversation, hands: Hands | undefined): Promise<PreparedTurn> {
  const { step, agent, turn, inputRef, answer } = talk;
  const { definitionRef } = agent;
  const { runId } = run;
  const messages = talk.messages ?? run.messagesFor(agent.name);
  if (messages.length > 0) run.keep({ ...talk, messages });
  return records(`${step}: turn ${turn}`).prepareTurn({
    runId,
    step,
    turn,
    inputRef,
    definitionRef,
    ...termsOf(run, step, hands, turn === maxTurnsOf(agent, hands)),
    ...(answer && { answer }),
    messages,
  });
}

type Begun = Pick<Conversation, 'agent' | 'inputRef'>;

async function askRemote(run: PipelineRun, step: string, { agent, inputRef }: Begun): Promise<string> {
  const { name, definitionRef, timeoutMs = 0, maxAttempts = 1 } = agent;
  const { callRemoteAgent } = outward({ summary: `${step}: ${name}`, timeoutMs, maxAttempts });
  const messages = run.messagesFor(name);
  const outputRef = await callRemoteAgent({ runId: run.runId, step, inputRef, definitionRef, messages });
  await finish(run, step, { outputRef });
  return outputRef;
}
