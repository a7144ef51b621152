import { isCancellation } from '@temporalio/workflow';
import type { SupervisorStep } from '../../domain/pipeline.ts';
import type { Answer, Conversation, ToolResult } from '../../domain/pipeline-run.ts';
import { errorInfoOf } from '../failures.ts';
import { outward } from './activities.ts';
import { runAgent } from './agent.ts';
import { Drained } from './drained.ts';
import type { PipelineRun } from './pipeline-run.ts';

type Workers = SupervisorStep['workers'];
type ToolCall = Answer['toolCalls'][number];

/** Tool calls of one answer that go on at the same time. */
const AT_ONCE = 20;

/** Does what a model asked for, side by side. What fails is told to the model. */
export async function answerToolCalls(
  run: PipelineRun,
  talk: Conversation,
  answer: Answer,
  workers: Workers,
): Promise<Answer> {
  let { results } = answer;
  const open = answer.toolCalls.filter(({ id }) => !results.some(({ callId }) => callId === id));
  const thrown: unknown[] = [];
  const lane = async () => {
    for (let call = open.shift(); call && thrown.length === 0; call = open.shift()) {
      try {
        const result = await answerToolCall(run, talk, answer, call, workers);
        results = [...results, result];
        run.keep({ ...talk, answer: { ...answer, results } });
      } catch (error) {
        thrown.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, open.length) }, lane));
  if (thrown.length > 0) throw thrown.find(isCancellation) ?? thrown[0];
  return { ...answer, results };
}

async function answerToolCall(
  run: PipelineRun,
  talk: Conversation,
  answer: Answer,
  call: ToolCall,
  workers: Workers,
): Promise<ToolResult> {
  const callId = call.id;
  const worker = workers.find(({ name }) => name === call.name);
  try {
    if (!worker) return await callTool(run, talk, answer, call);
    // The turn that asked for it is the one before.
    const step = `${talk.step}.${talk.turn - 1}.${answer.toolCalls.indexOf(call) + 1}`;
    const input = { responseRef: answer.responseRef, callId };
    return { callId, ref: await runAgent(run, { step, choice: worker.agent, input, parent: talk.step }) };
  } catch (error) {
    if (error instanceof Drained || isCancellation(error)) throw error;
    return { callId, problem: errorInfoOf(error).message };
  }
}

async function callTool(
  run: PipelineRun,
  { step, turn, agent }: Conversation,
  { responseRef }: Answer,
  { id: callId, name }: ToolCall,
): Promise<ToolResult> {
  await run.step();
  const { definitionRef } = agent;
  const tool = agent.tools && Object.hasOwn(agent.tools, name) ? agent.tools[name] : undefined;
  let payloadRef: string | undefined;
  if (tool?.approval) {
    const subject = { kind: 'tool_call', definitionRef, responseRef, callId } as const;
    const key = `${step}.${turn - 1}.${callId}`;
    const answer = await run.approvals.ask({ step, key, terms: tool.approval, subject });
    if (!answer.approved) {
      const problem = answer.expired ? 'Nobody approved this call in time.' : 'A person did not approve this call.';
      return { callId, problem, ...(answer.saidRef && { saidRef: answer.saidRef }) };
    }
    payloadRef = answer.payloadRef;
    // It may have been paused meanwhile.
    await run.released();
  }
  const { timeoutMs, maxAttempts } = tool ?? NO_TOOL;
  const activities = outward({ summary: `${step}: ${name}`, timeoutMs, maxAttempts });
  const call = { runId: run.runId, step, turn: turn - 1, definitionRef, responseRef, callId };
  return { callId, ref: await activities.callTool({ ...call, ...(payloadRef && { payloadRef }) }) };
}

/** For names that models make up: the call answers that there is no such tool. */
const NO_TOOL = { timeoutMs: 5_000, maxAttempts: 1 };
