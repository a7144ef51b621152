import { setTimeout as sleep } from 'node:timers/promises';
import { StreamAccumulator } from '../domain/accumulator.ts';
import type { ChoiceDelta, FinishReason, ModelRequest, StreamEvent } from '../domain/chat.ts';
import { outputLimit, textOf } from '../domain/chat.ts';
import { isErrorCode } from '../domain/errors.ts';
import type { ProviderAdapter, ProviderCall } from './adapter.ts';
import { sampleFromSchema } from './demo-schema.ts';
import { ProviderError } from './errors.ts';
import type { AdapterIdentity } from './identity.ts';

/**
 * A provider without a model: the same request always gets the same answer. It streams, calls tools, follows JSON
 * schemas, reports usage, and fails on demand, so that everything around a model can be tried without a key.
 *
 * A directive in the last user message sets the scene, e.g. `[demo error=overloaded times=2]`:
 * `error` (a provider error such as `rate_limited`), `times` (fail this many calls, then answer), `retry_after`
 * (seconds), `delay` (ms before the first token), `interval` (ms between tokens), `tokens` (length of the answer),
 * `cut` (fail after this many tokens).
 */
export function createDemoAdapter(identity: AdapterIdentity): ProviderAdapter {
  return {
    ...identity,
    async complete(request, call) {
      const accumulator = new StreamAccumulator();
      for await (const event of answer(identity.name, request, call)) accumulator.add(event);
      return accumulator.answer();
    },
    stream: (request, call) => answer(identity.name, request, call),
    probe: async () => {},
  };
}

async function* answer(provider: string, request: ModelRequest, call: ProviderCall): AsyncGenerator<StreamEvent> {
  const scene = readScene(request);
  if (scene.delay) await sleep(scene.delay, undefined, { signal: call.signal });
  if (scene.error && !scene.cut && call.attempt <= scene.times) throw failure(provider, scene);

  yield { type: 'start', model: call.model };
  const limit = outputLimit(request) ?? call.outputLimit ?? call.maxOutputTokens;
  let outputTokens = 0;
  for (let index = 0; index < (request.n ?? 1); index += 1) {
    const { deltas, reason } = script(request, scene, index);
    const shown = deltas.slice(0, limit);
    for (const delta of shown) {
      if (scene.cut && outputTokens >= scene.cut && call.attempt <= scene.times) throw failure(provider, scene);
      if (scene.interval && outputTokens > 0) await sleep(scene.interval, undefined, { signal: call.signal });
      outputTokens += 1;
      yield { type: 'delta', choices: [{ index, delta }] };
    }
    const finish = shown.length < deltas.length ? 'length' : reason;
    yield { type: 'finish', index, reason: finish, native: finish };
  }
  yield {
    type: 'usage',
    final: true,
    usage: {
      inputTokens: countWords(request.messages.map((message) => textOf(message.content)).join(' ')),
      cachedInputTokens: 0,
      cacheWriteTokens: 0,
      outputTokens,
      reasoningTokens: 0,
      estimated: false,
    },
  };
}

interface Scene {
  /** The last user message without its directive. */
  readonly text: string;
  readonly error: string | undefined;
  readonly times: number;
  readonly retryAfterMs: number | undefined;
  readonly delay: number;
  readonly interval: number;
  readonly tokens: number | undefined;
  readonly cut: number;
}

const DIRECTIVE = /\[demo((?:\s+[a-z_]+=[\w.]+)+)\s*\]/i;

function readScene(request: ModelRequest): Scene {
  const last = request.messages.findLast((message) => message.role === 'user');
  const text = last ? textOf(last.content) : '';
  const directive = DIRECTIVE.exec(text);
  const settings = new Map(
    directive?.[1]
      ?.trim()
      .split(/\s+/)
      .map((pair) => pair.split('=') as [string, string]),
  );
  const number = (name: string): number | undefined => {
    const value = Number(settings.get(name));
    return Number.isFinite(value) && value >= 0 ? value : undefined;
  };
  const retryAfter = number('retry_after');
  return {
    text: text.replace(DIRECTIVE, '').trim(),
    error: settings.get('error'),
    times: number('times') ?? Number.POSITIVE_INFINITY,
    retryAfterMs: retryAfter === undefined ? undefined : retryAfter * 1000,
    delay: number('delay') ?? 0,
    interval: number('interval') ?? 0,
    tokens: number('tokens'),
    cut: number('cut') ?? 0,
  };
}

function failure(provider: string, scene: Scene): ProviderError {
  const code = `provider_${scene.error ?? 'network'}`;
  return new ProviderError(isErrorCode(code) ? code : 'provider_server_error', `${provider}: an injected failure`, {
    retryAfterMs: scene.retryAfterMs,
  });
}

type Delta = ChoiceDelta['delta'];

function script(
  request: ModelRequest,
  scene: Scene,
  index: number,
): { readonly deltas: readonly Delta[]; readonly reason: FinishReason } {
  const tools = toolsToCall(request, scene);
  if (tools.length > 0) {
    const deltas = tools.flatMap((tool, nth) => callOf(tool, nth, `call_demo_${index}_${tool.name}`));
    return { deltas, reason: 'tool_calls' };
  }
  const words = untilStop(textFor(request, scene, index), request.stop).match(/\s*\S+/g) ?? [];
  return { deltas: words.map((content): Delta => ({ content })), reason: 'stop' };
}

interface CallableTool {
  readonly name: string;
  readonly parameters?: Readonly<Record<string, unknown>> | undefined;
}

function callOf({ name, parameters = {} }: CallableTool, index: number, id: string): readonly Delta[] {
  const args = JSON.stringify(sampleFromSchema(parameters));
  const opening: Delta = { tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] };
  const pieces = args.match(/.{1,12}/g) ?? [];
  return [opening, ...pieces.map((piece): Delta => ({ tool_calls: [{ index, function: { arguments: piece } }] }))];
}

/** Tools are called when the request demands one or the user's words name them, and never twice in a row. */
function toolsToCall(request: ModelRequest, scene: Scene): readonly CallableTool[] {
  const tools = (request.tools ?? []).flatMap((tool) => (tool.type === 'function' ? [tool.function] : []));
  const choice = request.tool_choice;
  if (choice === 'none' || request.messages.at(-1)?.role === 'tool') return [];
  if (typeof choice === 'object' && choice.type === 'function') {
    const { name } = choice.function as { name: string };
    return tools.filter((tool) => tool.name === name).slice(0, 1);
  }
  const said = scene.text.toLowerCase();
  const named = tools.filter((tool) =>
    tool.name
      .toLowerCase()
      .split(/[_-]/)
      .some((word) => word.length > 3 && said.includes(word)),
  );
  if (named.length === 0) return choice === 'required' ? tools.slice(0, 1) : [];
  return request.parallel_tool_calls === false ? named.slice(0, 1) : named;
}

function textFor(request: ModelRequest, scene: Scene, index: number): string {
  const format = request.response_format;
  if (format?.type === 'json_schema') return JSON.stringify(sampleFromSchema(format.json_schema.schema ?? {}));
  if (format?.type === 'json_object') return JSON.stringify({ answer: scene.text });
  if (scene.tokens !== undefined) return Array.from({ length: scene.tokens }, (_, i) => `word${i + 1}`).join(' ');
  const results = request.messages.slice(request.messages.findLastIndex(({ role }) => role !== 'tool') + 1);
  if (results.length > 0) {
    const said = results.map(({ content }) => textOf(content)).join(' and ');
    return `The tool${results.length > 1 ? 's' : ''} answered: ${said}`;
  }
  const choice = index > 0 ? ` (choice ${index + 1})` : '';
  return `Hello from Holdfast's demo provider${choice}. You said: ${scene.text}`;
}

function untilStop(text: string, stop: ModelRequest['stop']): string {
  const ends = [stop ?? []]
    .flat()
    .map((sequence) => text.indexOf(sequence))
    .filter((end) => end >= 0);
  return ends.length > 0 ? text.slice(0, Math.min(...ends)) : text;
}

const countWords = (text: string): number => text.match(/\S+/g)?.length ?? 0;
