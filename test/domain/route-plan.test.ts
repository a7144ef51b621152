import { describe, expect, it } from 'vitest';
import { CAPABILITIES, type Capability, type Requirement } from '../../domain/capabilities.ts';
import { Catalogue, type CatalogueModel } from '../../domain/catalogue.ts';
import { HoldfastError } from '../../domain/errors.ts';
import { planRoute, type RoutableProvider, type RoutingTable } from '../../domain/route-plan.ts';

const price = { input: 1, output: 1, cachedInput: 1, cacheWrite: 1 };
const model = (
  id: string,
  vendors: Record<string, string>,
  aliases: string[] = [],
  capabilities: Capability[] = ['tools', 'vision'],
): CatalogueModel => ({
  id,
  aliases,
  contextWindow: 1,
  maxOutputTokens: 1,
  price,
  priceChanges: [],
  capabilities: new Set(capabilities),
  vendors: new Map(Object.entries(vendors)),
  source: 'built_in',
});
const provider = (
  name: string,
  defaultModel?: string,
  capabilities: readonly Capability[] = CAPABILITIES,
  zones: readonly string[] = [],
): readonly [string, RoutableProvider] => [
  name,
  { name, vendor: name, defaultModel, capabilities: new Set(capabilities), privacyZones: new Set(zones) },
];

const catalogue = new Catalogue(
  [
    model('sonnet', { anthropic: 'sonnet', bedrock: 'anthropic.sonnet-v1:0' }, ['sonnet-20250929']),
    model('gpt', { openai: 'gpt' }),
    model('blind', { openai: 'blind' }, [], []),
  ],
  '2026-01-01',
);
const table: RoutingTable = {
  defaultProvider: 'anthropic',
  providers: new Map([
    provider('anthropic', 'sonnet', ['tools', 'vision', 'image_url']),
    provider('openai', 'gpt'),
    provider('bedrock', 'anthropic.sonnet-v1:0', ['tools', 'vision'], ['eu']),
    provider('local', 'llama'),
  ]),
  aliases: new Map([
    [
      'smart',
      [
        { provider: 'anthropic', model: 'sonnet' },
        { provider: 'google', model: 'gemini' },
        { provider: 'openai', model: 'gpt' },
      ],
    ],
    ['away', [{ provider: 'google', model: 'gemini' }]],
  ]),
  catalogue,
  fallback: { enabled: true, order: ['anthropic', 'bedrock'], maxTargets: 2, retryOriginal: false },
};
const plan = (
  request: { model?: string; provider?: string; zone?: string; requirements?: Requirement[] },
  changes: Partial<RoutingTable> = {},
) => planRoute({ ...table, ...changes }, { requirements: [], ...request }).map((t) => `${t.provider}/${t.model}`);
const fallback = (changes: Partial<RoutingTable['fallback']>) => ({ fallback: { ...table.fallback, ...changes } });
const needs = (capability: Capability): Requirement[] => [{ capability, param: 'p' }];

describe('a model name', () => {
  it('of the catalogue goes to the provider that serves it, and falls back by fallback_order', () => {
    expect(plan({ model: 'sonnet' })).toEqual(['anthropic/sonnet', 'bedrock/anthropic.sonnet-v1:0']);
  });

  it('that only a later provider serves falls back to the others’ default models', () => {
    expect(plan({ model: 'gpt' })).toEqual(['openai/gpt', 'anthropic/sonnet']);
  });

  it('with a provider before the slash goes there', () => {
    expect(plan({ model: 'local/mixtral:8x7b' })[0]).toBe('local/mixtral:8x7b');
    expect(plan({ model: 'bedrock/sonnet' })[0]).toBe('bedrock/anthropic.sonnet-v1:0');
  });

  it('that is a dated snapshot stays the one asked for at its own vendor', () => {
    expect(plan({ model: 'sonnet-20250929' })[0]).toBe('anthropic/sonnet-20250929');
    expect(plan({ model: 'bedrock/sonnet-20250929' })[0]).toBe('bedrock/anthropic.sonnet-v1:0');
  });

  it('that is a provider’s default model is found without a catalogue entry', () => {
    expect(plan({ model: 'llama' })[0]).toBe('local/llama');
  });

  it('that is a vendor’s own id finds its price, also behind a geography', () => {
    const [target] = planRoute(table, { model: 'bedrock/us.anthropic.sonnet-v1:0', requirements: [] });
    expect(target?.catalogued?.id).toBe('sonnet');
    expect(target?.model).toBe('us.anthropic.sonnet-v1:0');
  });

  it('means the provider’s default model where that is the same one, id and all', () => {
    const providers = new Map([...table.providers, provider('bedrock', 'eu.anthropic.sonnet-v1:0')]);
    expect(plan({ model: 'sonnet' }, { providers })).toEqual(['anthropic/sonnet', 'bedrock/eu.anthropic.sonnet-v1:0']);
  });

  it('that nobody serves is a 404 naming it', () => {
    expect(() => plan({ model: 'nope' })).toThrow(/'nope'/);
    expect(() => plan({ model: 'google/gemini' })).toThrow(HoldfastError);
  });
});

describe('a privacy zone', () => {
  it('leaves its providers only, as target, fallback and default', () => {
    expect(plan({ model: 'sonnet', zone: 'eu' })).toEqual(['bedrock/anthropic.sonnet-v1:0']);
    expect(plan({ zone: 'eu' })).toEqual(['bedrock/anthropic.sonnet-v1:0']);
  });

  it.each([
    ['a model that is served elsewhere only', { model: 'gpt', zone: 'eu' }],
    ['a provider outside of it', { model: 'anthropic/sonnet', zone: 'eu' }],
    ['an alias of providers outside of it', { model: 'smart', zone: 'eu' }],
    ['no provider at all', { model: 'gpt', zone: 'mars' }],
  ])('refuses %s', (_case, request) => {
    expect(() => plan(request)).toThrow(expect.objectContaining({ code: 'policy_privacy_zone' }));
  });

  it('does not blame itself for a model that nobody serves', () => {
    expect(() => plan({ model: 'nope', zone: 'eu' })).toThrow(/'nope' does not exist/);
  });
});

describe('an alias', () => {
  it('is its configured targets in order', () => {
    expect(plan({ model: 'smart' })).toEqual(['anthropic/sonnet', 'openai/gpt']);
  });

  it('skips targets that cannot serve the request', () => {
    expect(plan({ model: 'smart', requirements: needs('logprobs') })).toEqual(['openai/gpt']);
  });

  it('without a configured provider is a 404 that names the providers', () => {
    expect(() => plan({ model: 'away' })).toThrow(/google/);
  });
});

describe('no model', () => {
  it('is the default provider’s', () => {
    expect(plan({})[0]).toBe('anthropic/sonnet');
  });

  it('is the asked provider’s default', () => {
    expect(plan({ provider: 'openai' })[0]).toBe('openai/gpt');
    expect(() => plan({ provider: 'google' })).toThrow(/not configured/);
  });
});

describe('the fallback chain', () => {
  it('has max_fallback_attempts targets, the first included', () => {
    expect(plan({ model: 'gpt' }, fallback({ maxTargets: 1 }))).toEqual(['openai/gpt']);
    expect(plan({ model: 'gpt' }, fallback({ maxTargets: 9 }))).toEqual([
      'openai/gpt',
      'anthropic/sonnet',
      'bedrock/anthropic.sonnet-v1:0',
    ]);
  });

  it('ends with the original once more if asked to', () => {
    expect(plan({ model: 'sonnet' }, fallback({ retryOriginal: true }))).toEqual([
      'anthropic/sonnet',
      'bedrock/anthropic.sonnet-v1:0',
      'anthropic/sonnet',
    ]);
  });

  it('is the first target alone when switched off', () => {
    expect(plan({ model: 'smart' }, fallback({ enabled: false }))).toEqual(['anthropic/sonnet']);
  });

  it('leaves out providers that lack a capability', () => {
    expect(plan({ model: 'sonnet', requirements: needs('image_url') })).toEqual(['anthropic/sonnet']);
  });
});

describe('a capability', () => {
  it('that the asked provider lacks is a 400 naming it', () => {
    expect(() => plan({ model: 'sonnet', requirements: needs('logprobs') })).toThrow(/'logprobs'.*anthropic\/sonnet/);
  });

  it('that the asked model lacks is a 400 naming it', () => {
    expect(() => plan({ model: 'blind', requirements: needs('vision') })).toThrow(/'vision'.*openai\/blind/);
  });

  it('is taken for granted of a model the catalogue does not know', () => {
    expect(plan({ model: 'local/llava', requirements: needs('vision') })[0]).toBe('local/llava');
  });
});
