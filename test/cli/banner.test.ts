import { describe, expect, it } from 'vitest';
import { exampleModel } from '../../cli/banner.ts';
import { loadConfig } from '../../config/load.ts';
import { loadSettings } from '../../config/settings.ts';
import { planRoute } from '../../domain/route-plan.ts';
import { buildRoutingTable, createProviders } from '../../providers/registry.ts';

describe('the printed curl line', () => {
  it.each([
    ['without a provider', {}, 'demo', 'demo'],
    ['with OpenAI', { GATEWAY_OPENAI_API_KEY: 'sk-x' }, 'fast', 'openai'],
    ['with Ollama', { GATEWAY_OLLAMA_BASE_URL: 'http://127.0.0.1:11434/v1' }, 'local', 'ollama'],
    ['with Bedrock', { GATEWAY_AWS_REGION: 'us-east-1' }, 'smart', 'bedrock'],
  ])('%s names a model that is served', (_name, env, model, provider) => {
    const config = loadConfig(loadSettings(env), env);
    expect(exampleModel(config)).toBe(model);
    const routing = buildRoutingTable(config.gateway, config.catalogue, createProviders(config.providers));
    expect(planRoute(routing, { model, requirements: [] })[0]?.provider).toBe(provider);
  });
});
