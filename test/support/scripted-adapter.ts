import { StreamAccumulator } from '../../domain/accumulator.ts';
import { CAPABILITIES } from '../../domain/capabilities.ts';
import type { StreamEvent } from '../../domain/chat.ts';
import { NO_USAGE } from '../../domain/money.ts';
import type { ProviderAdapter, ProviderCall } from '../../providers/adapter.ts';

/** What one call does: yields events, waits, throws. */
export type Script = (call: ProviderCall) => AsyncGenerator<StreamEvent>;

/** An adapter that plays one script per call and counts them; the last script repeats. */
export function scriptedAdapter(...scripts: Script[]): ProviderAdapter & { calls: number } {
  const play = (call: ProviderCall) => {
    const script = scripts[Math.min(adapter.calls, scripts.length - 1)] as Script;
    adapter.calls += 1;
    return script(call);
  };
  const adapter = {
    calls: 0,
    name: 'p',
    vendor: 'p',
    type: 'demo' as const,
    label: 'P',
    region: 'moon-1',
    defaultModel: 'm',
    privacyZones: new Set<string>(),
    capabilities: new Set(CAPABILITIES),
    timeoutMs: 60_000,
    maxAttempts: 3,
    async complete(_request: unknown, call: ProviderCall) {
      const accumulator = new StreamAccumulator();
      for await (const event of play(call)) accumulator.add(event);
      return accumulator.answer();
    },
    stream: (_request: unknown, call: ProviderCall) => play(call),
    probe: async () => {},
  };
  return adapter;
}

const delta = (content: string): StreamEvent => ({ type: 'delta', choices: [{ index: 0, delta: { content } }] });

/** Answers with the words, and usage unless told not to. */
export const answers = (words: readonly string[], { usage = true } = {}): Script =>
  async function* () {
    yield { type: 'start', model: 'm-2026' };
    for (const word of words) yield delta(word);
    yield { type: 'finish', index: 0, reason: 'stop', native: 'end_turn' };
    if (usage) {
      yield { type: 'usage', usage: { ...NO_USAGE, inputTokens: 10, outputTokens: words.length }, final: true };
    }
  };

/** Fails, after having said something if words are given. */
export const fails = (error: Error, words: readonly string[] = []): Script =>
  async function* () {
    if (words.length > 0) yield { type: 'start', model: 'm-2026' };
    for (const word of words) yield delta(word);
    throw error;
  };

/** Says its words and then waits until it is aborted. */
export const hangs = (words: readonly string[] = []): Script =>
  async function* ({ signal }) {
    if (words.length > 0) yield { type: 'start', model: 'm-2026' };
    for (const word of words) yield delta(word);
    await new Promise((_, reject) => {
      if (signal.aborted) reject(signal.reason);
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  };

/** Waits for `gate` before it answers. */
export const answersAfter = (gate: Promise<unknown>, words: readonly string[]): Script =>
  async function* (call) {
    await gate;
    yield* answers(words)(call);
  };
