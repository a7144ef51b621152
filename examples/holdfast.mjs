// What the examples share: a few HTTP calls. Nothing here is needed to use the gateway; curl does as well.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const url = process.env.GATEWAY_URL ?? 'http://127.0.0.1:8000';
/** Any model or alias of the gateway's. `demo` is there while no provider key is set. */
export const model = process.env.MODEL ?? 'demo';

/** Calls the API. */
export const call = async (path, body) => (await request(path, body)).json();

/** Throws what the gateway says against the request. */
async function request(path, body) {
  const response = await fetch(url + path, {
    method: body ? 'POST' : 'GET',
    headers: { authorization: `Bearer ${masterKey()}`, ...(body && { 'content-type': 'application/json' }) },
    body: body && JSON.stringify(body),
  }).catch(() => {
    throw new Error(`No gateway answers at ${url}. Start it with \`make start\`, or set GATEWAY_URL.`);
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
  return response;
}

/** Registers agents that are a model with instructions, or replaces them. */
export async function register(agents) {
  for (const agent of agents) await call('/agents/register', { kind: 'prompt', model, ...agent });
}

/**
 * Starts a workflow, prints what it does as it happens, and returns it as it ended.
 * @param onApproval Is called with each approval that somebody has to decide.
 */
export async function run(workflow, input, onApproval) {
  const { id } = await call('/workflows/start', { workflow, input });
  console.log(`\n${id}\n`);
  for await (const { event, data } of events(id)) {
    if (event === 'step')
      console.log(`  ${data.status.padEnd(9)}  ${data.step}${data.agent ? ` (${data.agent})` : ''}`);
    if (event === 'approval') console.log(`  ${data.status.padEnd(9)}  ${data.step}: approval`);
    if (event === 'approval' && data.status === 'pending') await onApproval?.(data.id);
  }
  const ended = await call(`/workflows/${id}`);
  if (ended.status !== 'completed') throw new Error(`The workflow ${ended.status}: ${ended.error?.message}`);
  console.log(`\nOutput, for $${ended.cost_usd}:\n\n${ended.output}`);
  return ended;
}

/** What a workflow does, until its end. The connection may break: `starting_after` goes on behind the last event. */
async function* events(id) {
  const { body } = await request(`/workflows/${id}/events`);
  let text = '';
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    const blocks = (text + piece).split('\n\n');
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/s)));
      if (fields.event) yield { event: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

/** That of the settings, or the one that `make start` made and printed. */
function masterKey() {
  if (process.env.GATEWAY_MASTER_KEY) return process.env.GATEWAY_MASTER_KEY;
  const directories = [process.env.GATEWAY_DATA_DIR, '.holdfast', join(import.meta.dirname, '..', '.holdfast')];
  const secrets = directories.map((one) => one && join(one, 'secrets.json')).find((file) => file && existsSync(file));
  if (!secrets) throw new Error('No master key: set GATEWAY_MASTER_KEY to the one that the gateway printed.');
  return JSON.parse(readFileSync(secrets, 'utf8')).masterKey;
}
