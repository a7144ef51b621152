import type { AgentChoice, PromptAgent } from '../../domain/agent.ts';
import type { Caller } from '../../domain/caller.ts';
import type { AssistantMessage, Message, ModelRequest, ModelResult, Tool } from '../../domain/chat.ts';
import { HoldfastError } from '../../domain/errors.ts';
import type { Answer, PreparedTurn, ToolResult, TurnToPrepare } from '../../domain/pipeline-run.ts';
import { type PreparationDeps, prepareCall } from '../../planning/prepare.ts';
import type { Requests } from '../../storage/postgres/requests.ts';
import { failing, PipelineContext, type PipelineDeps } from './context.ts';

export interface TurnDeps extends PipelineDeps, PreparationDeps {
  readonly requests: Requests;
}

/** Characters of a tool's result that a model is shown. */
const MAX_SHOWN = 64 * 1024;

/** Plans and stores the model call of a turn. */
export function createPrepareTurn(deps: TurnDeps) {
  const { requests, runSteps, bodies, agents } = deps;
  const context = new PipelineContext(deps);

  async function messagesOf({ inputRef, answer, messages }: TurnToPrepare, agent: PromptAgent): Promise<Message[]> {
    const before = answer ? await conversation(answer) : opening(agent, await context.content(inputRef));
    const received = await Promise.all(messages.map((id) => context.received(id)));
    return [...before, ...received.map(({ from, content }) => user(`Message from ${from}: ${content}`))];
  }

  /** All that was said before, and what came of it. */
  async function conversation({ requestId, responseRef, toolCalls, results, problemRef }: Answer): Promise<Message[]> {
    const asked = await bodies.ofRequest<ModelRequest>(requestId);
    const { choices } = await context.body<ModelResult>(responseRef);
    const said = choices[0]?.message;
    if (!asked || !said) throw new HoldfastError('gateway_internal', 'A part of the run is not kept any more.');
    const calls = toolCalls.map(async ({ id: place }, index): Promise<Message> => {
      const result = results.find(({ callId }) => callId === place);
      return { role: 'tool', tool_call_id: said.tool_calls?.[index]?.id ?? '', content: await textOfResult(result) };
    });
    const problem = problemRef === undefined ? [] : [user(await context.content(problemRef))];
    return [...asked.messages, toMessage(said), ...(await Promise.all(calls)), ...problem];
  }

  async function textOfResult(result: ToolResult | undefined): Promise<string> {
    if (!result) return 'This call was not made.';
    if ('ref' in result) return shown(await context.content(result.ref));
    const said = result.saidRef && (await context.body<{ readonly comment?: string }>(result.saidRef)).comment;
    return said ? `${result.problem} ${said}` : result.problem;
  }

  const toolsOf = async (agent: PromptAgent, { workers = [] }: TurnToPrepare, caller: Caller): Promise<Tool[]> => [
    ...agent.tools.map(
      ({ name, description, parameters }): Tool => ({
        type: 'function',
        function: { name, ...(description !== undefined && { description }), parameters: { ...parameters } },
      }),
    ),
    ...(await Promise.all(workers.map(async (worker) => toTool(worker.name, await aboutOf(worker.agent, caller))))),
  ];

  const aboutOf = async (choice: AgentChoice, caller: Caller): Promise<string> =>
    'capability' in choice
      ? `An agent that can: ${choice.capability}`
      : ((await agents.find(choice.agent, caller))?.description ?? '');

  return async (turn: TurnToPrepare): Promise<PreparedTurn> => {
    const { runId, step, definitionRef } = turn;
    const { run, caller } = await context.open(runId);
    const agent = await context.promptAgent(definitionRef);
    const tools = await toolsOf(agent, turn, caller);
    const request: ModelRequest = {
      ...agent.parameters,
      messages: await messagesOf(turn, agent),
      ...(tools.length > 0 && { tools, ...(turn.last && { tool_choice: 'none' as const }) }),
      ...(agent.outputSchema && { response_format: toResponseFormat(agent.outputSchema) }),
    };
    const id = `${runId}.${step}.${turn.turn}`;
    const deadlineAt = run.deadlineAt.getTime();
    const { row, call } = await prepareCall(deps, {
      id,
      runId,
      requestId: id,
      caller,
      model: agent.model,
      request,
      surface: 'workflows',
      stream: false,
      resumable: true,
      background: true,
      checkedByCall: true,
      metadata: run.metadata,
      deadlineAt,
      maxCostNanos: turn.maxCostNanos,
      // Nobody waits, so it waits for its limits as long as it may, and lets those go first for whom somebody does.
      terms: { maxWaitMs: Math.max(0, deadlineAt - Date.now()), priority: 'batch' },
    });
    await requests.insertMissing([row]);
    // What was prepared first is what is asked, also where an agent was changed meanwhile.
    const bodyRef = (await bodies.refOfRequest(id)) ?? call.bodyRef;
    return { call: { ...call, bodyRef, step }, spentNanos: await runSteps.spent(runId) };
  };
}

/** The model calls of prompt agents. */
export function createTurnActivities(deps: TurnDeps) {
  const prepare = createPrepareTurn(deps);
  return { prepareTurn: (turn: TurnToPrepare): Promise<PreparedTurn> => failing(() => prepare(turn)) };
}

const user = (content: string): Message => ({ role: 'user', content });

const opening = ({ instructions }: PromptAgent, input: string): Message[] => [
  { role: 'system', content: instructions },
  user(input),
];

type Said = ModelResult['choices'][number]['message'];

const toMessage = ({ content, tool_calls }: Said): AssistantMessage => ({
  role: 'assistant',
  content,
  ...(tool_calls && tool_calls.length > 0 && { tool_calls: tool_calls as NonNullable<AssistantMessage['tool_calls']> }),
});

const toTool = (name: string, description: string): Tool => ({
  type: 'function',
  function: {
    name,
    description: `Hands a task to an agent and returns its answer. ${description}`.trim(),
    parameters: {
      type: 'object',
      properties: { task: { type: 'string', description: 'All that the agent needs to know.' } },
      required: ['task'],
      additionalProperties: false,
    },
  },
});

const toResponseFormat = (schema: Readonly<Record<string, unknown>>): NonNullable<ModelRequest['response_format']> => ({
  type: 'json_schema',
  json_schema: { name: 'output', schema: { ...schema } },
});

const shown = (text: string): string =>
  text.length <= MAX_SHOWN
    ? text
    : `${text.slice(0, MAX_SHOWN)}\n[The result has ${text.length} characters; these are the first ${MAX_SHOWN}.]`;
