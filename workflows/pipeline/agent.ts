import { DEFAULT_APPROVAL_TERMS } from '../../domain/approval.ts';
import { HoldfastError } from '../../domain/errors.ts';
import type { ModelCallResult } from '../../domain/model-call.ts';
import type { Pattern, SupervisorStep } from '../../domain/pipeline.ts';
import type { AgentTask, Answer, Conversation } from '../../domain/pipeline-run.ts';
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
export function runAgent(run: PipelineRun, task: AgentTask, hands?: Hands): Promise<string> {
  const { step, choice, input, parent } = task;
  const pattern: Pattern = hands ? 'supervisor' : 'single';
  return recorded(run, { step, pattern, choice, input, ...(parent && { parent }) }, async (begun) => {
    const { agent, inputRef } = begun;
    if (!agent) throw new HoldfastError('gateway_internal', 'The step has no agent.');
    if (agent.kind === 'remote') return askRemote(run, step, { agent, inputRef });
    return converse(run, run.conversation(step) ?? { step, agent, inputRef, turn: 1 }, hands);
  });
}

/** A model with tools: asked until it has an answer that will do. */
async function converse(run: PipelineRun, begun: Conversation, hands: Hands | undefined): Promise<string> {
  const { step, agent } = begun;
  const maxTurns = hands?.maxRounds ?? agent.maxTurns ?? 1;
  for (let talk = begun; ; ) {
    run.keep(talk);
    const answer = talk.answer && (await answerToolCalls(run, talk, talk.answer, hands?.workers ?? []));
    if (talk.turn > maxTurns) throw new HoldfastError('policy_turn_limit', `No answer after ${maxTurns} turns.`);
    talk = { ...talk, ...(answer && { answer }) };
    const { requestId, result } = await takeTurn(run, talk, hands, talk.turn === maxTurns);
    const { responseRef, toolCalls = [] } = result;
    const given: Answer = { requestId, responseRef, toolCalls, results: [] };
    talk = { ...talk, turn: talk.turn + 1, answer: given };
    if (toolCalls.length > 0) continue;
    const { definitionRef } = agent;
    const { outputRef, problemRef } = await finish(run, step, { responseRef, definitionRef }, requestId);
    if (outputRef !== undefined) {
      run.forget(step);
      return outputRef;
    }
    talk = { ...talk, answer: { ...given, ...(problemRef && { problemRef }) } };
  }
}

interface Turn {
  readonly requestId: string;
  readonly result: ModelCallResult;
}

async function takeTurn(run: PipelineRun, talk: Conversation, hands: Hands | undefined, last: boolean): Promise<Turn> {
  const { step, agent, turn, inputRef, answer } = talk;
  const { definitionRef, approveOverNanos } = agent;
  await run.step();
  run.note(step, `${agent.name}, turn ${turn}`);
  const { runId, maxCostNanos } = run;
  const { call, spentNanos } = await records(`${step}: turn ${turn}`).prepareTurn({
    runId,
    step,
    turn,
    inputRef,
    definitionRef,
    last,
    ...(maxCostNanos !== undefined && { maxCostNanos }),
    ...(answer && { answer }),
    ...(hands && { workers: hands.workers }),
    messages: run.messagesFor(agent.name),
  });
  run.cost.spent(spentNanos, ...(answer ? [answer.requestId] : []));
  const { requestId, admission } = call;
  if (approveOverNanos !== undefined && admission.maxCostNanos > approveOverNanos) {
    const subject = { kind: 'model_call', requestId, maxCostNanos: admission.maxCostNanos } as const;
    const { approved } = await run.approvals.ask({
      step,
      key: `${step}.${turn}`,
      terms: DEFAULT_APPROVAL_TERMS,
      subject,
    });
    if (!approved) throw new HoldfastError('policy_approval_rejected', 'A call over its cost limit was not approved.');
  }
  return { requestId, result: await run.call(call) };
}

type Begun = Pick<Conversation, 'agent' | 'inputRef'>;

async function askRemote(run: PipelineRun, step: string, { agent, inputRef }: Begun): Promise<string> {
  await run.step();
  const { name, definitionRef, timeoutMs = 0, maxAttempts = 1 } = agent;
  const { callRemoteAgent } = outward({ summary: `${step}: ${name}`, timeoutMs, maxAttempts });
  const messages = run.messagesFor(name);
  const outputRef = await callRemoteAgent({ runId: run.runId, step, inputRef, definitionRef, messages });
  await finish(run, step, { outputRef });
  return outputRef;
}
