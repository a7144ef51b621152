import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, startGateway, type TestGateway } from '../support/gateway.ts';

const upstream = new FixtureServer();
let gateway: TestGateway;
beforeAll(async () => {
  await upstream.start();
  gateway = await startGateway(`
default_provider: anthropic
providers:
  anthropic: { type: anthropic, base_url: "${upstream.url}", api_key: sk-ant, default_model: claude-haiku-4-5 }
  bedrock: { type: bedrock, region: eu-west-2, endpoint: "http://127.0.0.1:9", model_id: amazon.nova-pro-v1:0 }
  demo: { type: demo }
fallback: { enabled: false }
logging: { prompt_preview: 20 }
`);
});
afterAll(async () => {
  await gateway.stop();
  await upstream.stop();
});

const message = {
  id: 'msg_1',
  type: 'message',
  role: 'assistant',
  model: 'claude-haiku-4-5-20251001',
  content: [{ type: 'text', text: '100' }],
  stop_reason: 'end_turn',
  usage: { input_tokens: 15, output_tokens: 13 },
};

describe('the endpoints of seed 001', () => {
  it('GET / says what runs', async () => {
    const response = await fetch(gateway.url);
    expect(await response.json()).toEqual({
      service: 'Holdfast',
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      status: 'running',
      providers: ['anthropic', 'bedrock', 'demo'],
    });
  });

  it('GET /health tells of every provider and part', async () => {
    upstream.reply = () => ({ body: { data: [] } });
    const health = await (await fetch(`${gateway.url}/health`)).json();
    const healthy = { status: 'healthy', latency_ms: expect.any(Number) };
    expect(health).toEqual({
      status: 'degraded',
      providers: {
        anthropic: { ...healthy, model: 'claude-haiku-4-5' },
        bedrock: {
          status: 'unhealthy',
          latency_ms: expect.any(Number),
          error: expect.stringMatching(/^provider_/),
          region: 'eu-west-2',
        },
        demo: { ...healthy, model: 'demo' },
      },
      temporal: healthy,
      postgres: healthy,
      redis: { ...healthy, embedded: true },
      timestamp: expect.closeTo(Date.now() / 1000, -2),
    });
  });

  it('GET /health/live and /health/ready answer probes', async () => {
    expect(await (await fetch(`${gateway.url}/health/live`)).json()).toEqual({ status: 'alive' });
    expect(await (await fetch(`${gateway.url}/health/ready`)).json()).toEqual({ status: 'ready' });
  });

  it('GET /providers lists models and defaults', async () => {
    const providers = await gateway.json('/providers');
    expect(providers.anthropic).toMatchObject({ provider: 'AnthropicProvider', default_model: 'claude-haiku-4-5' });
    expect(providers.anthropic.models).toContain('claude-opus-4-5');
    expect(providers.bedrock).toMatchObject({
      provider: 'BedrockProvider',
      region: 'eu-west-2',
      default_model: 'amazon.nova-pro-v1:0',
    });
    expect((await fetch(`${gateway.url}/providers`)).status).toBe(401);
  });

  it('POST /v1/generate answers in its own shape', async () => {
    upstream.reply = () => ({ body: message });
    const generated = await gateway.json('/v1/generate', {
      json: {
        messages: [{ role: 'user', content: 'What is 25 + 75?' }],
        provider: 'anthropic',
        model: null,
        max_tokens: 4096,
        temperature: 0.0,
      },
    });
    expect(generated).toEqual({
      content: '100',
      model: 'claude-haiku-4-5-20251001',
      provider: 'AnthropicProvider',
      usage: { input_tokens: 15, output_tokens: 13, total_tokens: 28 },
      finish_reason: 'end_turn',
      latency_ms: expect.any(Number),
    });
    expect(upstream.last.body).toMatchObject({ model: 'claude-haiku-4-5', max_tokens: 4096, temperature: 0 });
  });

  it('POST /v1/generate uses the default provider, and names one that is not there', async () => {
    upstream.reply = () => ({ body: message });
    const messages = [{ role: 'user', content: 'hi' }];
    expect(await gateway.json('/v1/generate', { json: { messages } })).toMatchObject({ provider: 'AnthropicProvider' });
    expect(await gateway.json('/v1/generate', { json: { messages, provider: 'demo' } })).toMatchObject({
      provider: 'DemoProvider',
    });
    const unknown = await gateway.fetch('/v1/generate', { json: { messages, provider: 'google' } });
    expect(unknown.status).toBe(400);
    expect(await unknown.json()).toMatchObject({ error: { param: 'provider' } });
  });
});

describe('the ledger', () => {
  it('keeps parameters, attribution and as much of the prompt as the config says', async () => {
    const made = await gateway.json('/v1/chat/completions', {
      json: {
        model: 'demo',
        temperature: 0.5,
        tools: [{ type: 'function', function: { name: 'f' } }],
        messages: [{ role: 'user', content: 'A long question that goes on and on' }],
        metadata: { team: 'blue', project: 'orchestrator', user: 'ann', component: 'reasoner' },
      },
    });
    const row = await gateway.json(`/logs/${made.id}`);
    expect(row).toMatchObject({
      team: 'blue',
      project: 'orchestrator',
      user_id: 'ann',
      prompt: 'A long question that',
      model_requested: 'demo',
      parameters: { temperature: 0.5, tools: 1, stream: false, metadata: { component: 'reasoner' } },
    });
    const usage = await eventually(async () => {
      const { data } = await gateway.json('/metrics/usage?group_by=project&team=blue');
      return data.length > 0 && data;
    });
    expect(usage).toMatchObject([{ group: 'orchestrator', requests: 1, failures: 0 }]);
  });
});

describe('the API’s description', () => {
  it('holds all that it refers to', async () => {
    const text = await (await fetch(`${gateway.url}/openapi.json`)).text();
    const { components } = JSON.parse(text) as { components: { schemas: Record<string, object> } };
    const references = [...text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map(([, name]) => name);
    expect(references).toContain('WorkflowStepInput');
    expect(Object.keys(components.schemas)).toEqual(expect.arrayContaining(references));
  });

  it('names every endpoint', async () => {
    const { openapi, paths } = (await (await fetch(`${gateway.url}/openapi.json`)).json()) as {
      openapi: string;
      paths: Record<string, object>;
    };
    expect(openapi).toBe('3.1.0');
    expect(Object.keys(paths).sort()).toEqual([
      '/',
      '/agents',
      '/agents/register',
      '/agents/{id}',
      '/agents/{id}/heartbeat',
      '/api/v1/audit-log',
      '/api/v1/budgets',
      '/api/v1/budgets/{id}',
      '/api/v1/costs/summary',
      '/api/v1/models',
      '/api/v1/models/{id}',
      '/api/v1/organisations',
      '/api/v1/organisations/{id}',
      '/api/v1/projects',
      '/api/v1/projects/{id}',
      '/api/v1/rate-limits',
      '/api/v1/rate-limits/{scope_type}/{scope_id}',
      '/api/v1/reports',
      '/api/v1/reports/{id}',
      '/api/v1/routing-policies',
      '/api/v1/settings',
      '/api/v1/teams',
      '/api/v1/teams/{id}',
      '/api/v1/users',
      '/api/v1/users/{id}',
      '/approvals',
      '/approvals/pending',
      '/approvals/{id}',
      '/auth/login',
      '/auth/me',
      '/capabilities',
      '/config/providers',
      '/config/providers/{provider}/keys',
      '/config/providers/{provider}/keys/{id}',
      '/config/virtual-keys',
      '/config/virtual-keys/{id}',
      '/health',
      '/health/live',
      '/health/ready',
      '/llm/invoke',
      '/logs',
      '/logs/{id}',
      '/messages',
      '/metrics',
      '/metrics/usage',
      '/providers',
      '/v1/batches',
      '/v1/batches/{id}',
      '/v1/batches/{id}/cancel',
      '/v1/chat/completions',
      '/v1/chat/completions/{id}',
      '/v1/estimate',
      '/v1/files',
      '/v1/files/{id}',
      '/v1/files/{id}/content',
      '/v1/generate',
      '/v1/jobs',
      '/v1/jobs/{id}',
      '/v1/jobs/{id}/cancel',
      '/v1/jobs/{id}/events',
      '/v1/jobs/{id}/pause',
      '/v1/jobs/{id}/rerun',
      '/v1/jobs/{id}/resume',
      '/v1/jobs/{id}/retry',
      '/v1/jobs/{id}/webhooks',
      '/v1/models',
      '/v1/responses',
      '/v1/responses/{id}',
      '/v1/responses/{id}/cancel',
      '/v1/responses/{id}/input_items',
      '/v1/webhooks/deliveries/{id}',
      '/v1/webhooks/deliveries/{id}/resend',
      '/workflows/start',
      '/workflows/{id}',
      '/workflows/{id}/cancel',
      '/workflows/{id}/events',
      '/workflows/{id}/history',
      '/workflows/{id}/pause',
      '/workflows/{id}/resume',
      '/workflows/{id}/retry',
    ]);
    expect(Object.keys(paths['/v1/chat/completions'] ?? {})).toEqual(['post']);
  });

  it('is a page at /docs', async () => {
    const page = await fetch(`${gateway.url}/docs/`);
    expect(page.status).toBe(200);
    expect(await page.text()).toContain('swagger-ui');
  });
});
