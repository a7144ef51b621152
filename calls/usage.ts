import type { ModelAnswer, ModelRequest } from '../domain/chat.ts';
import { boundInput } from '../domain/cost-bound.ts';
import {
  cacheSavingsOf,
  costOf,
  type NanoDollars,
  type Price,
  type PricingOptions,
  type Usage,
} from '../domain/money.ts';
import { countRequestTokens, countTokens } from '../providers/tokenizer.ts';

/** Some compatible servers report zeros for what they did not count. */
const isReport = (usage: Usage | null): usage is Usage => usage !== null && usage.inputTokens + usage.outputTokens > 0;

export interface Priced {
  readonly usage: Usage;
  readonly costNanos: NanoDollars;
  readonly cacheSavingsNanos: NanoDollars;
}

/** What an answer used, counted here where the provider does not say, and what that costs. */
export async function account(
  request: ModelRequest,
  answer: ModelAnswer,
  price: Price | null,
  pricing: PricingOptions = {},
): Promise<Priced> {
  const reported = isReport(answer.usage) ? answer.usage : await countUsage(request, answerText(answer));
  return priced(reported, request, price, pricing);
}

/** What a call cost, by what was used. */
export function priced(
  reported: Usage,
  request: ModelRequest,
  price: Price | null,
  pricing: PricingOptions = {},
): Priced {
  if (!price) return { usage: reported, costNanos: 0, cacheSavingsNanos: 0 };
  // No provider reports how many images there were.
  const usage = price.image === undefined ? reported : { ...reported, inputImages: boundInput(request).images };
  return { usage, costNanos: costOf(usage, price, pricing), cacheSavingsNanos: cacheSavingsOf(usage, price, pricing) };
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
