// Makes the pictures of the documentation with real parts and real Chromium:
//
//   npm run build && node docs/images/capture.mjs [path of chromium]
//
// Anthropic is an emulator that is overloaded, Bedrock one that answers, and agents ask the demo provider.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { LLMock } from '@copilotkit/aimock';
import { chromium } from 'playwright-core';

const executablePath = process.argv[2] ?? '/usr/bin/chromium';
const here = dirname(fileURLToPath(import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'holdfast-capture-'));
const [port, grpc, ui] = [18_000, 17_233, 18_233];
const key = 'sk-master-capture-0000';

const overloaded = createServer((request, response) => {
  request.resume();
  response.writeHead(529, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } }));
});
await new Promise((resolve) => overloaded.listen(0, '127.0.0.1', resolve));
const bedrock = new LLMock({ port: 0 });
bedrock.onMessage('hello', { content: 'Hello from Bedrock.' });
await bedrock.start();

writeFileSync(
  join(dir, 'gateway.yaml'),
  `providers:
  anthropic: { type: anthropic, base_url: "http://127.0.0.1:${overloaded.address().port}", api_key: x, default_model: claude-opus-5-5 }
  bedrock: { type: bedrock, region: us-east-1, endpoint: "${bedrock.url}", model_id: us.anthropic.claude-opus-5-5 }
  demo: { type: demo, default_model: demo }
fallback: { fallback_order: [anthropic, bedrock] }
`,
);
const gateway = spawn(process.execPath, [join(here, '..', '..', 'dist', 'cli', 'main.js'), 'start'], {
  stdio: 'inherit',
  env: {
    ...process.env,
    AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE',
    AWS_SECRET_ACCESS_KEY: 'x',
    GATEWAY_CONFIG: join(dir, 'gateway.yaml'),
    GATEWAY_DATA_DIR: join(dir, 'data'),
    GATEWAY_MASTER_KEY: key,
    GATEWAY_PORT: String(port),
    GATEWAY_TEMPORAL_PORT: String(grpc),
    GATEWAY_TEMPORAL_UI_PORT: String(ui),
  },
});
try {
  const ready = () =>
    fetch(`http://127.0.0.1:${port}/health/ready`).then(
      (response) => response.ok,
      () => false,
    );
  for (let i = 0; i < 300 && !(await ready()); i += 1) await sleep(200);

  const call = async (path, body) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      ...(body && { method: 'POST', body: JSON.stringify(body) }),
    });
    return response.json();
  };
  const { id } = await call('/v1/chat/completions', {
    model: 'claude-opus-5-5',
    messages: [{ role: 'user', content: 'hello' }],
  });

  for (const name of ['security', 'style', 'editor']) {
    await call('/agents/register', {
      kind: 'prompt',
      name,
      model: 'demo/demo',
      instructions: `You review for ${name}.`,
    });
  }
  const workflow = await call('/workflows/start', {
    input: 'diff --git a/pay.ts b/pay.ts',
    workflow: {
      pattern: 'sequential',
      name: 'review',
      steps: [
        {
          pattern: 'parallel',
          name: 'reviews',
          branches: [
            { pattern: 'single', agent: 'security' },
            { pattern: 'single', agent: 'style' },
          ],
        },
        { pattern: 'human_in_loop', name: 'approval', title: 'Post this review?' },
        { pattern: 'single', agent: 'editor' },
      ],
    },
  });
  let pending;
  while (!pending) [pending] = (await call('/approvals/pending')).data;

  const browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-sync'],
  });
  const page = await browser.newPage({ viewport: { width: 1400, height: 1000 } });
  await page.goto(`http://127.0.0.1:${ui}/namespaces/default/workflows/${id}`);
  await page.getByText('callProvider').first().waitFor();
  await sleep(1_500);
  await page.screenshot({ path: join(here, 'fallback-in-temporal-ui.png') });
  await page.goto(`http://127.0.0.1:${ui}/namespaces/default/workflows/${workflow.id}`);
  await page.getByText('requestApproval').first().waitFor();
  await page.getByText('User Metadata').click();
  await sleep(1_500);
  await page.screenshot({ path: join(here, 'workflow-waits-in-temporal-ui.png') });
  await call('/approvals', { approval_id: pending.id, decision: 'approve' });
  while ((await call(`/workflows/${workflow.id}`)).status !== 'completed') await sleep(100);
  await page.reload();
  await page.getByText('Completed').first().waitFor();
  await sleep(2_500);
  await page.screenshot({ path: join(here, 'workflow-in-temporal-ui.png'), fullPage: true });
  await browser.close();
} finally {
  gateway.kill('SIGTERM');
  await new Promise((resolve) => gateway.once('close', resolve));
  await bedrock.stop();
  overloaded.close();
  rmSync(dir, { recursive: true, force: true });
}
