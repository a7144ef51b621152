import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../config/load.ts';
import { loadSettings } from '../../config/settings.ts';
import { pricedAt } from '../../domain/catalogue.ts';
import { fromDollars, toDollars } from '../../domain/money.ts';
import { buildRoutingTable, createProviders } from '../../providers/registry.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'holdfast-config-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

function load(yaml: string | undefined, env: NodeJS.ProcessEnv = {}, models?: string) {
  const paths: NodeJS.ProcessEnv = {};
  if (yaml !== undefined) {
    paths.GATEWAY_CONFIG = join(dir, 'gateway.yaml');
    writeFileSync(paths.GATEWAY_CONFIG, yaml);
  }
  if (models !== undefined) {
    paths.GATEWAY_MODELS = join(dir, 'models.yaml');
    writeFileSync(paths.GATEWAY_MODELS, models);
  }
  return loadConfig(loadSettings({ ...env, ...paths }), env);
}
const problem = (yaml: string, env: NodeJS.ProcessEnv = {}): string => {
  try {
    load(yaml, env);
  } catch (error) {
    return (error as Error).message.replaceAll(dir, '');
  }
  throw new Error('the config was accepted');
};

describe('the built-in configuration', () => {
  it('runs on the demo provider when nothing is set', () => {
    expect([...load(undefined).providers.keys()]).toEqual(['demo']);
  });

  it('switches a provider on by its key, and the demo provider off', () => {
    const { providers } = load(undefined, { GATEWAY_OPENAI_API_KEY: 'sk-1', GATEWAY_AWS_REGION: 'eu-west-1' });
    expect([...providers.keys()]).toEqual(['openai', 'bedrock']);
  });

  it('switches Ollama on by its address alone', () => {
    const { providers } = load(undefined, { GATEWAY_OLLAMA_BASE_URL: 'http://127.0.0.1:11434/v1' });
    expect([...providers.keys()]).toEqual(['ollama']);
  });

  it('names only models that its catalogue has', () => {
    const env = {
      GATEWAY_OPENAI_API_KEY: 'k',
      GATEWAY_ANTHROPIC_API_KEY: 'k',
      GATEWAY_GOOGLE_API_KEY: 'k',
      GATEWAY_XAI_API_KEY: 'k',
      GATEWAY_DEEPSEEK_API_KEY: 'k',
      GATEWAY_AWS_REGION: 'us-east-1',
      GATEWAY_OLLAMA_BASE_URL: 'http://127.0.0.1:1/v1',
    };
    const config = load(undefined, env);
    const routing = buildRoutingTable(config.gateway, config.catalogue, createProviders(config.providers));
    const named = [
      ...[...routing.aliases.values()].flat(),
      ...[...routing.providers.values()].map(({ name, defaultModel }) => ({
        provider: name,
        model: defaultModel ?? '',
      })),
    ];
    for (const { provider, model } of named) {
      const vendor = routing.providers.get(provider)?.vendor ?? '';
      expect(config.catalogue.findAt(vendor, model), `${provider}/${model}`).toBeDefined();
    }
  });
});

describe('gateway.yaml', () => {
  it('expands ${VAR} and ${VAR:-default}, numbers included', () => {
    const { gateway } = load(
      'providers: { a: { type: anthropic, api_key: "${KEY}", default_model: ${MODEL}, timeout: ${WAIT:-7} } }\n' +
        'retry: { retry_delay: ${DELAY} }',
      { KEY: '123', DELAY: '0.5', MODEL: 'a: {b}' },
    );
    expect(gateway.providers.a).toMatchObject({ api_key: '123', default_model: 'a: {b}', timeout: 7 });
    expect(gateway.retry.retry_delay).toBe(0.5);
  });

  it('names file, line and variable when a variable is not set', () => {
    expect(problem('providers:\n  a:\n    type: anthropic\n    api_key: ${NO_SUCH_KEY}\n')).toMatch(
      /^\/gateway\.yaml:4: .*NO_SUCH_KEY is not set.*\$\{NO_SUCH_KEY:-\}/,
    );
  });

  it('names file and line of an unknown key', () => {
    expect(problem('providers:\n  a:\n    type: openai\n    api_kye: x\n')).toMatch(
      /^\/gateway\.yaml:4: providers\.a\.api_kye: Unrecognized key/,
    );
  });

  it('names file and line of a wrong value, one line each', () => {
    const lines = problem(
      'providers:\n  a: { type: demo }\nretry:\n  retry_delay: soon\nserver:\n  body_limit_mb: -1\n',
    );
    expect(lines.split('\n')).toEqual([
      expect.stringMatching(/^\/gateway\.yaml:4: retry\.retry_delay: /),
      expect.stringMatching(/^\/gateway\.yaml:6: server\.body_limit_mb: /),
    ]);
  });

  it('names the line of a reference to a provider that is not there', () => {
    const yaml = 'providers:\n  a: { type: demo }\nfallback:\n  fallback_order:\n    - a\n    - b\n';
    expect(problem(yaml)).toMatch(
      /^\/gateway\.yaml:6: fallback\.fallback_order\.1: provider 'b' is not in 'providers'/,
    );
    expect(problem('providers:\n  a: { type: demo }\ndefault_provider: b\n')).toMatch(
      /^\/gateway\.yaml:3: default_provider/,
    );
    expect(problem('providers:\n  a: { type: demo }\nmodels:\n  x:\n    - { provider: c, model: m }\n')).toMatch(
      /^\/gateway\.yaml:5: models\.x\.0\.provider: provider 'c'/,
    );
  });

  it('names what is wrong with who may call', () => {
    const auth = (text: string) => problem(`providers: { demo: { type: demo } }\n${text}`);
    const issuer = '{ issuer: a, audience: b, jwks_url: "https://a.example/keys" }';
    expect(auth(`auth: { jwt: [ ${issuer}, ${issuer} ] }`)).toBe('/gateway.yaml:2: auth.jwt: each issuer once');
    expect(auth('auth: { jwt: [ { issuer: a, audience: b, jwks_url: "file:///keys" } ] }')).toContain('jwks_url');
    expect(
      auth(`auth: { jwt: [ { issuer: a, audience: b, jwks_url: "https://a.example", roles: { x: root } } ] }`),
    ).toContain('auth.jwt.0.roles.x');
    expect(auth('auth: { mtls: { subjects: { billing: { roles: [developer] } } } }')).toBe(
      "/gateway.yaml:2: auth.mtls.subjects: needs 'server.tls' with 'client_ca'",
    );
    expect(auth('server: { tls: { cert: a, key: b, require_client_cert: true } }')).toContain('server.tls');
  });

  it('takes names, addresses and networks of private receivers and agents, and nothing else', () => {
    const section = (name: string, hosts: string) =>
      `providers: { demo: { type: demo } }\n${name}: { allowed_private_hosts: [${hosts}] }`;
    const hosts = ['hooks.internal', '10.1.2.3', '10.0.0.0/8', 'fd12::/16'];
    const quoted = hosts.map((host) => `"${host}"`).join();
    expect(load(section('webhooks', quoted)).gateway.webhooks).toEqual({ timeout: 10, allowed_private_hosts: hosts });
    expect(load(section('agents', quoted)).gateway.agents).toMatchObject({ allowed_private_hosts: hosts });
    for (const name of ['webhooks', 'agents']) {
      for (const wrong of ['"http://hooks.internal"', '10.0.0.0/33', '"*.internal"', '""']) {
        expect(problem(section(name, wrong))).toBe(
          `/gateway.yaml:2: ${name}.allowed_private_hosts.0: must be a host name, an address or a network such as 10.0.0.0/8`,
        );
      }
    }
    expect(problem('providers: { demo: { type: demo } }\nwebhooks: { timeout: 61 }')).toContain('webhooks.timeout');
  });

  it('names the line of broken YAML and a file that is missing', () => {
    expect(problem('providers:\n  a: {\n')).toMatch(/^\/gateway\.yaml:\d+: /);
    expect(() => loadConfig(loadSettings({ GATEWAY_CONFIG: '/no/such.yaml' }), {})).toThrow(
      /\/no\/such\.yaml: .*ENOENT/,
    );
  });

  it('refuses a default provider that is off, and a config without any', () => {
    expect(problem('default_provider: a\nproviders: { a: { type: openai, api_key: "" }, b: { type: demo } }')).toMatch(
      /default_provider 'a' is not usable/,
    );
    expect(problem('providers: { demo: { type: demo, enabled: false } }')).toMatch(/No provider is configured/);
  });

  it('serves another vendor’s models at an OpenAI-compatible address', () => {
    const yaml = 'providers: { groq: { type: openai, base_url: "https://api.groq.com/openai/v1", api_key: k } }';
    const { providers } = load(yaml);
    expect(createProviders(providers).get('groq')?.vendor).toBe('groq');
  });
});

describe('a models file', () => {
  it('adds to the catalogue and replaces what has the same id', () => {
    const models = `
price_date: 2030-01-01
models:
  gpt-5: { context_window: 1, max_output_tokens: 1, price: { input: 99, output: 1 }, vendors: { openai: gpt-5 } }
  llama: { context_window: 1, max_output_tokens: 1, price: { input: 1, output: 1 }, vendors: { groq: llama-3 } }
`;
    const { catalogue } = load(undefined, {}, models);
    expect(toDollars(catalogue.find('gpt-5')?.price.input ?? 0)).toBe(99);
    expect(toDollars(catalogue.find('gpt-5')?.price.cachedInput ?? 0)).toBe(99);
    expect(catalogue.findAt('groq', 'llama-3')?.id).toBe('llama');
    expect(catalogue.find('gpt-5-mini')).toBeDefined();
    expect(catalogue.priceDate).toBe('2030-01-01');
    expect(catalogue.find('gpt-5')?.source).toBe('file');
    expect(catalogue.find('gpt-5-mini')?.source).toBe('built_in');
  });

  it('prices a model by the day, with batch prices as a discount or as rates', () => {
    const models = `
price_date: 2030-01-01
models:
  m:
    context_window: 1
    max_output_tokens: 1
    price: { input: 2, output: 4, audio_input: 8, image: 0.01 }
    long_context: { above: 10, input: 4, output: 8 }
    batch: { discount_percent: 25 }
    price_changes:
      - { from: 2031-06-01, input: 5, output: 5 }
      - { from: 2031-01-01, input: 3, output: 3, batch: { input: 1, output: 1 } }
    vendors: { v: m }
`;
    const m = load(undefined, {}, models).catalogue.find('m');
    if (!m) throw new Error('m is not there');
    const at = (instant: string) => pricedAt(m, Date.parse(instant));
    const now = at('2030-12-31T23:59:59Z');
    expect(now.price).toMatchObject({ audioInput: fromDollars(8), image: fromDollars(0.01) });
    expect(now.price.batch).toMatchObject({
      input: fromDollars(1.5),
      output: fromDollars(3),
      audioInput: fromDollars(6),
    });
    expect(now.price.batch?.longContext).toMatchObject({ above: 10, input: fromDollars(3), output: fromDollars(6) });
    expect(now.priceChanges.map(({ from }) => from)).toEqual(['2031-01-01', '2031-06-01']);
    const later = at('2031-01-01T00:00:00Z');
    expect(later.price).toMatchObject({ input: fromDollars(3), batch: { input: fromDollars(1) } });
    expect(later.price).not.toHaveProperty('longContext');
    expect(at('2032-01-01').price.input).toBe(fromDollars(5));
    expect(at('2032-01-01').priceChanges).toEqual([]);
  });
});

describe('a provider whose keys are stored', () => {
  it('is on without a key of its own, and says so', () => {
    const { providers } = load(undefined, { GATEWAY_OPENAI_API_KEY: 'stored' });
    expect([...providers.keys()]).toEqual(['openai']);
    expect(createProviders(providers).get('openai')?.storedKeysOnly).toBe(true);
  });
});

describe('the environment', () => {
  it('takes encryption keys in hex or from AWS', () => {
    const [one, two] = ['a1'.repeat(32), 'aws-secretsmanager:prod/holdfast'];
    const kms = 'aws-kms:arn:aws:kms:eu-west-1:111122223333:key/1234abcd';
    const settings = loadSettings({
      GATEWAY_ENCRYPTION_KEY: kms,
      GATEWAY_ENCRYPTION_KEYS_PREVIOUS: `${one}, ${two},`,
    });
    expect(settings).toMatchObject({ encryptionKey: kms, previousEncryptionKeys: [one, two] });
    expect(loadSettings({}).previousEncryptionKeys).toEqual([]);
    for (const wrong of ['aws-kms:', 'gcp-kms:x', 'planted']) {
      const load = () => loadSettings({ GATEWAY_ENCRYPTION_KEYS_PREVIOUS: `${one},${wrong}` });
      expect(load).toThrow(/GATEWAY_ENCRYPTION_KEYS_PREVIOUS/);
      expect(load).not.toThrow(/planted/);
    }
  });

  it('takes names of worker deployments that Temporal takes', () => {
    expect(loadSettings({ GATEWAY_WORKER_DEPLOYMENT: 'holdfast-eu' }).workerDeployment).toBe('holdfast-eu');
    for (const wrong of ['holdfast.eu', 'holdfast:eu', 'holdfast eu', '__holdfast']) {
      expect(() => loadSettings({ GATEWAY_WORKER_DEPLOYMENT: wrong })).toThrow(/GATEWAY_WORKER_DEPLOYMENT/);
    }
  });

  it('names every wrong variable', () => {
    const wrong = { GATEWAY_PORT: 'http', GATEWAY_ENCRYPTION_KEY: 'short', GATEWAY_MASTER_KEY: 'short' };
    expect(() => loadSettings(wrong)).toThrow(/GATEWAY_PORT[\s\S]*GATEWAY_MASTER_KEY[\s\S]*GATEWAY_ENCRYPTION_KEY/);
  });

  it('takes an empty variable as not set', () => {
    expect(loadSettings({ DATABASE_URL: '', GATEWAY_MASTER_KEY: '' })).toMatchObject({
      databaseUrl: undefined,
      masterKey: undefined,
      port: 8000,
    });
  });
});
