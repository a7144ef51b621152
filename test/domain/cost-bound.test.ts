import fc from 'fast-check';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import { describe, expect, it } from 'vitest';
import type { CatalogueModel } from '../../domain/catalogue.ts';
import type { ModelRequest } from '../../domain/chat.ts';
import { boundCall, boundInput } from '../../domain/cost-bound.ts';
import { fromDollars, maxCostOf } from '../../domain/money.ts';

const model: CatalogueModel = {
  id: 'm',
  aliases: [],
  contextWindow: 100_000,
  maxOutputTokens: 8_000,
  price: { input: fromDollars(1), output: fromDollars(2), cachedInput: fromDollars(1), cacheWrite: fromDollars(1) },
  priceChanges: [],
  capabilities: new Set(),
  vendors: new Map(),
  source: 'built_in',
};
const asking = (content: string, extra: Partial<ModelRequest> = {}): ModelRequest => ({
  messages: [{ role: 'user', content }],
  ...extra,
});

describe('boundInput', () => {
  it('is never below what a tokenizer counts', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'grapheme', maxLength: 400 }), fc.string({ maxLength: 400 })), (text) => {
        expect(boundInput(asking(text)).maxTokens).toBeGreaterThanOrEqual(countTokens(text, { allowedSpecial: 'all' }));
      }),
    );
  });

  it('counts tools and schemas', () => {
    const tools = [{ type: 'function' as const, function: { name: 'f', description: 'd'.repeat(1_000) } }];
    expect(boundInput(asking('hi', { tools })).maxTokens).toBeGreaterThan(1_000);
  });

  it('bounds an image by a constant, not by its bytes or its URL', () => {
    const image = (url: string): ModelRequest => ({
      messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }] }],
    });
    const short = boundInput(image('https://example.com/a.png')).maxTokens;
    expect(short).toBeGreaterThanOrEqual(5_000);
    expect(boundInput(image(`data:image/png;base64,${'A'.repeat(100_000)}`)).maxTokens).toBe(short);
  });

  it('has no bound for documents', () => {
    const request: ModelRequest = { messages: [{ role: 'user', content: [{ type: 'file', file: { file_id: 'f' } }] }] };
    expect(boundInput(request).maxTokens).toBe(Number.POSITIVE_INFINITY);
    expect(boundCall(request, boundInput(request), model, { hardBudget: true }).maxCostNanos).toBe(
      maxCostOf(100_000, 8_000, model.price),
    );
  });
});

describe('boundCall', () => {
  const bound = (request: ModelRequest, hard: boolean) =>
    boundCall(request, boundInput(request), model, { hardBudget: hard });

  it('takes the caller’s limit, for each choice', () => {
    const request = asking('hi', { max_tokens: 10, n: 3 });
    expect(bound(request, true)).toEqual({ maxCostNanos: maxCostOf(boundInput(request).maxTokens, 30, model.price) });
  });

  it('has the images that are priced by the piece in it', () => {
    const image = { type: 'image_url' as const, image_url: { url: 'https://example.com/a.png' } };
    const request: ModelRequest = { messages: [{ role: 'user', content: [image, image] }], max_tokens: 1 };
    const priced = { ...model, price: { ...model.price, image: fromDollars(0.5) } };
    const difference =
      boundCall(request, boundInput(request), priced, { hardBudget: true }).maxCostNanos -
      bound(request, true).maxCostNanos;
    expect(difference).toBe(fromDollars(1));
  });

  it('sets an output limit upstream only for a hard budget', () => {
    expect(bound(asking('hi'), true).injectedOutputLimit).toBe(8_000);
    expect(bound(asking('hi'), false).injectedOutputLimit).toBeUndefined();
    expect(bound(asking('hi'), false).maxCostNanos).toBe(bound(asking('hi'), true).maxCostNanos);
  });

  it('leaves room in the context window for a long prompt', () => {
    expect(bound(asking('x'.repeat(285_000)), true).injectedOutputLimit).toBeLessThan(6_000);
  });
});
