import type { ModelAnswer, ModelRequest } from '../domain/chat.ts';
import { boundInput } from '../domain/cost-bound.ts';
import { cacheSavingsOf, costOf, type Price, type PricingOptions, type Usage } from '../domain/money.ts';
import { countRequestTokens, countTokens } from '../providers/tokenizer.ts';

/** Some compatible servers report zeros for what they did not count. */
const isReport = (usage: Usage | null): usage is Usage => usage !== null && usage.inputTokens + usage.outputTokens > 0;

/** What an answer used: as the provider reported it, else as counted here. */
export const usageOf = async (answer: ModelAnswer, request: ModelRequest): Promise<Usage> =>
  isReport(answer.usage) ? answer.usage : countUsage(request, answerText(answer));

/** What a call cost, by what was used. */
export function priced(reported: Usage, request: ModelRequest, price: Price | null, options: PricingOptions = {}) {
  if (!price) return { usage: reported, costNanos: 0, cacheSavingsNanos: 0 };
  // No provider reports how many images there were.
  const usage = price.image === undefined ? reported : { ...reported, inputImages: boundInput(request).images };
  return { usage, costNanos: costOf(usage, price, options), cacheSavingsNanos: cacheSavingsOf(usage, price, options) };
}

/** Usage as counted here, where the provider's own report is missing or unfinished. */
export async function countUsage(request: ModelRequest, output: string, reported?: Usage | null): Promise<Usage> {
  return {
    ...reported,
    inputTokens: reported?.inputTokens || (await countRequestTokens(request)),
    cachedInputTokens: reported?.cachedInputTokens ?? 0,
    cacheWriteTokens: reported?.cacheWriteTokens ?? 0,
    outputTokens: Math.max(reported?.outputTokens ?? 0, await countTokens(output)),
    reasoningTokens: reported?.reasoningTokens ?? 0,
    estimated: true,
  };
}

const answerText = ({ choices }: ModelAnswer): string =>
  choices
    .map(({ message }) => {
      const tools = (message.tool_calls ?? [])
        .map((call) =>
          call.type === 'custom'
            ? call.custom.name + call.custom.input
            : call.function?.name + call.function?.arguments,
        )
        .join('');
      return (message.content ?? '') + (message.refusal ?? '') + (message.reasoning_content ?? '') + tools;
    })
    .join('');
