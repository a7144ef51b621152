import { WebSocket } from 'undici';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Agency, askedAs, echo, lastMessage } from '../support/agents.ts';
import { FixtureServer } from '../support/fixture-server.ts';
import { eventually, type Json, MASTER_KEY, startGateway, type TestGateway } from '../support/gateway.ts';
import { openaiCompletion, openaiToolCalls } from '../support/shapes.ts';

describe.each(['embedded', 'configured'] as const)('workflows on %s parts', (parts) => {
  const upstream = new FixtureServer();
  let gateway: TestGateway;
  let agency: Agency;
  beforeAll(async () => {
    await upstream.start();
    gateway = await startGateway(
      `
providers:
  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: k, default_model: gpt-5-mini, max_retries: 1 }
retry: { retry_delay: 0.01 }
agents: { allowed_private_hosts: [127.0.0.1] }
`,
      parts,
    );
    agency = new Agency(gateway);
    await agency.agents('a', 'b', 'c', 'd');
    await agency.post('/agents/register', { name: 'far', kind: 'remote', url: `${upstream.url}/far` });
  });
  afterAll(async () => {
    await gateway.stop();
    await upstream.stop();
  });
  beforeEach(() => {
    upstream.reset();
    upstream.reply = echo;
  });

  it('a single agent answers what it is given', async () => {
    const started = await agency.start({ pattern: 'single', agent: 'a' }, { input: 'hello' });
    expect(started).toMatchObject({
      object: 'workflow',
      pattern: 'single',
      status: 'queued',
      input: 'hello',
      output: null,
    });
    const ended = await agency.ended(started.id);
    expect(ended).toMatchObject({
      status: 'completed',
      output: 'a(hello)',
      error: null,
      steps: [{ name: 'a', pattern: 'single', agent: 'a', status: 'completed', output: 'a(hello)' }],
    });
    expect(ended.cost_usd).toBeGreaterThan(0);
    expect(ended.steps[0].cost_usd).toBe(ended.cost_usd);
    expect(upstream.last.body.messages).toEqual([
      { role: 'system', content: 'You are a.' },
      { role: 'user', content: 'hello' },
    ]);
  });

  it('sequential steps each get the output of the one before', async () => {
    const ended = await agency.run({
      pattern: 'sequential',
      steps: ['a', 'b', 'c'].map((agent) => ({ pattern: 'single', agent })),
    });
    expect(ended).toMatchObject({ status: 'completed', output: 'c(b(a(the input)))' });
    expect(ended.steps.map(({ name }: { name: string }) => name)).toEqual(['sequential', 'a', 'b', 'c']);
  });

  it('a step’s input may name the input of all and the outputs of others', async () => {
    const ended = await agency.run({
      pattern: 'sequential',
      steps: [
        { pattern: 'single', name: 'first', agent: 'a' },
        { pattern: 'single', name: 'second', agent: 'b' },
        { pattern: 'single', agent: 'c', input: '{{ steps.first }} + {{previous}} + {{input}}' },
      ],
    });
    expect(ended.output).toBe('c(a(the input) + b(a(the input)) + the input)');
  });

  it('parallel branches get the same input, and their outputs are joined and merged', async () => {
    const ended = await agency.run({
      pattern: 'parallel',
      branches: ['a', 'b'].map((agent) => ({ pattern: 'single', agent })),
      merge: { pattern: 'single', agent: 'c', input: 'Merge: {{previous}}' },
    });
    const joined = JSON.stringify({ a: 'a(the input)', b: 'b(the input)' }, null, 2);
    expect(ended).toMatchObject({ status: 'completed', output: `c(Merge: ${joined})` });
  });

  it('a supervisor hands out to workers and answers with what they said', async () => {
    upstream.reply = (request) => {
      if (askedAs(request) !== 'a') return echo(request);
      const results = request.body.messages.filter(({ role }: { role: string }) => role === 'tool');
      if (results.length > 0) {
        return { body: openaiCompletion(results.map(({ content }: { content: string }) => content).join(' and ')) };
      }
      return { body: openaiToolCalls(['b', { task: 'task 0' }], ['c', { task: 'task 1' }]) };
    };
    const ended = await agency.run({ pattern: 'supervisor', coordinator: 'a', workers: ['b', 'c'] });
    expect(ended).toMatchObject({ status: 'completed', output: 'b(task 0) and c(task 1)' });
    const byName = ended.steps.toSorted((one: Json, other: Json) => (one.name < other.name ? -1 : 1));
    expect(byName).toMatchObject([
      { name: 'supervisor', agent: 'a' },
      { name: 'supervisor.1.1', agent: 'b', parent: 'supervisor', output: 'b(task 0)' },
      { name: 'supervisor.1.2', agent: 'c', parent: 'supervisor', output: 'c(task 1)' },
    ]);
    expect(lastMessage(upstream.last)).toBe('c(task 1)');
  });

  it('patterns nest', async () => {
    const ended = await agency.run({
      pattern: 'sequential',
      steps: [
        {
          pattern: 'parallel',
          branches: [
            { pattern: 'sequential', name: 'left', steps: ['a', 'b'].map((agent) => ({ pattern: 'single', agent })) },
            { pattern: 'single', agent: 'c' },
          ],
        },
        { pattern: 'single', agent: 'd', input: '{{steps.left}}|{{steps.c}}' },
      ],
    });
    expect(ended.output).toBe('d(b(a(the input))|c(the input))');
  });

  describe.runIf(parts === 'configured')('joins', () => {
    const branches = ['a', 'b', 'c'].map((agent) => ({ pattern: 'single', agent }));
    const failing = (...names: readonly string[]) => {
      upstream.reply = (request) =>
        names.includes(askedAs(request)) ? { status: 400, body: { error: { message: 'no' } } } : echo(request);
    };

    it('of all fail with the first that fails', async () => {
      failing('b');
      const ended = await agency.run({ pattern: 'parallel', branches });
      expect(ended).toMatchObject({ status: 'failed', output: null, error: { code: 'invalid_request' } });
    });

    it('of a quorum need so many, and no more', async () => {
      failing('b');
      const ended = await agency.run({ pattern: 'parallel', branches, join: { quorum: 2 } });
      expect(JSON.parse(ended.output)).toEqual({ a: 'a(the input)', c: 'c(the input)' });
    });

    it('of a quorum fail when too few can succeed', async () => {
      failing('a', 'b');
      const ended = await agency.run({ pattern: 'parallel', branches, join: { quorum: 2 } });
      expect(ended).toMatchObject({ status: 'failed', error: { code: 'invalid_request' } });
    });

    it('of any take the first, and cancel and settle the others', async () => {
      upstream.reply = (request) => (askedAs(request) === 'b' ? echo(request) : { delayMs: 60_000 });
      const ended = await agency.run({ pattern: 'parallel', branches, join: 'any' });
      expect(JSON.parse(ended.output)).toEqual({ b: 'b(the input)' });
      const states = ended.steps.map(({ name, status }: Json) => [name, status]);
      expect(Object.fromEntries(states)).toEqual({
        parallel: 'completed',
        a: 'cancelled',
        b: 'completed',
        c: 'cancelled',
      });
      const { data } = await gateway.json(`/workflows/${ended.id}/history`);
      const calls = data.filter(({ type }: Json) => type === 'model_call');
      expect(calls.map(({ step, status }: Json) => [step, status]).toSorted()).toEqual([
        ['a', 'cancelled'],
        ['b', 'completed'],
        ['c', 'cancelled'],
      ]);
    });

    it('run no more branches at once than they may', async () => {
      let [now, most] = [0, 0];
      upstream.reply = (request) => {
        now += 1;
        most = Math.max(most, now);
        const until = new Promise<void>((resolve) => {
          setTimeout(() => {
            now -= 1;
            resolve();
          }, 100);
        });
        return { ...echo(request), until };
      };
      const many = Array.from({ length: 6 }, (_, n) => ({ pattern: 'single', name: `n${n}`, agent: 'a' }));
      await agency.run({ pattern: 'parallel', branches: many, max_concurrency: 2 });
      expect(most).toBe(2);
    });
  });

  describe('a workflow that failed', () => {
    const workflow = { pattern: 'sequential', steps: ['a', 'b', 'c'].map((agent) => ({ pattern: 'single', agent })) };
    const fail = async (): Promise<Json> => {
      upstream.reply = (request) =>
        askedAs(request) === 'b' ? { status: 400, body: { error: { message: 'no' } } } : echo(request);
      const failed = await agency.run(workflow);
      upstream.reset();
      upstream.reply = echo;
      return failed;
    };

    it('tells which step failed and why', async () => {
      const failed = await fail();
      expect(failed).toMatchObject({ status: 'failed', output: null, error: { code: 'invalid_request' } });
      expect(failed.steps.map(({ name, status }: Json) => [name, status])).toEqual([
        ['sequential', 'failed'],
        ['a', 'completed'],
        ['b', 'failed'],
      ]);
    });

    it('is retried from the failed step: what was done is not paid again', async () => {
      const failed = await fail();
      const again = await agency.post(`/workflows/${failed.id}/retry`);
      expect(again).toMatchObject({ retry_of: failed.id });
      const ended = await agency.ended(again.id);
      expect(ended).toMatchObject({ status: 'completed', output: 'c(b(a(the input)))' });
      expect(upstream.received.map(askedAs)).toEqual(['b', 'c']);
      expect(ended.steps.find(({ name }: Json) => name === 'a')).toMatchObject({ kept: true, cost_usd: 0 });
    });

    it('is retried from any step, also when it completed', async () => {
      const completed = await agency.run(workflow);
      upstream.reset();
      const { id } = await agency.post(`/workflows/${completed.id}/retry`, { from: 'c' });
      expect(await agency.ended(id)).toMatchObject({ status: 'completed', output: completed.output });
      expect(upstream.received.map(askedAs)).toEqual(['c']);
      const unknown = await agency.post(`/workflows/${completed.id}/retry`, { from: 'nobody' });
      expect(unknown.error).toMatchObject({ param: 'from' });
    });

    it('is not retried without a step while it runs or after it completed', async () => {
      const completed = await agency.run(workflow);
      const refused = await agency.post(`/workflows/${completed.id}/retry`);
      expect(refused.error).toMatchObject({ code: 'conflict' });
    });
  });

  describe.runIf(parts === 'configured')('under way', () => {
    const slow = (name: string) => {
      let release = () => {};
      const until = new Promise<void>((resolve) => {
        release = resolve;
      });
      upstream.reply = (request) => (askedAs(request) === name ? { ...echo(request), until } : echo(request));
      return release;
    };
    const two = { pattern: 'sequential', steps: ['a', 'b'].map((agent) => ({ pattern: 'single', agent })) };
    const asked = (name: string) => eventually(async () => upstream.received.map(askedAs).includes(name));

    it('it is cancelled, and what it used is settled', async () => {
      slow('b');
      const { id } = await agency.start(two);
      await asked('b');
      expect(await agency.post(`/workflows/${id}/cancel`)).toMatchObject({ status: 'cancelled' });
      const { data } = await gateway.json(`/workflows/${id}/history`);
      expect(data.filter(({ type }: Json) => type === 'model_call').map(({ status }: Json) => status)).toEqual([
        'completed',
        'cancelled',
      ]);
      expect(await agency.post(`/workflows/${id}/cancel`)).toMatchObject({ error: { code: 'conflict' } });
    });

    it('it is paused: the call under way ends and is settled, nothing further begins until it is resumed', async () => {
      const release = slow('a');
      const { id } = await agency.start(two);
      await asked('a');
      expect(await agency.post(`/workflows/${id}/pause`)).toMatchObject({ status: 'paused' });
      release();
      await eventually(async () =>
        (await agency.get(id)).steps.some(({ name, status }: Json) => name === 'a' && status === 'completed'),
      );
      const paused = await agency.get(id);
      expect(paused).toMatchObject({ status: 'paused' });
      expect(paused.cost_usd).toBeGreaterThan(0);
      expect(upstream.received).toHaveLength(1);
      await agency.post(`/workflows/${id}/resume`);
      expect(await agency.ended(id)).toMatchObject({ status: 'completed', output: 'b(a(the input))' });
    });

    it('it stops at a limit of steps, time or cost, and goes on when that is raised', async () => {
      for (const [limit, low, high] of [
        ['max_steps', 1, 5],
        ['max_duration', 0.001, 600],
        ['max_cost_usd', 0.0000001, 1],
      ] as const) {
        const { id } = await agency.start(two, { [limit]: low });
        const stopped = await agency.until(id, 'budget_exceeded');
        expect(stopped.error).toMatchObject({ param: limit, code: 'insufficient_quota' });
        expect(await agency.post(`/workflows/${id}/resume`, { [limit]: high })).toMatchObject({ [limit]: high });
        expect(await agency.ended(id)).toMatchObject({ status: 'completed', output: 'b(a(the input))' });
      }
    });

    it('it makes no further call once its key is gone, or it is over for the database', async () => {
      const json = { name: 'k', team: crypto.randomUUID() };
      const { id: keyId, key } = await gateway.json('/config/virtual-keys', { json });
      const release = slow('a');
      const { id } = await new Agency(gateway, key).start(two);
      await asked('a');
      await gateway.fetch(`/config/virtual-keys/${keyId}`, { method: 'DELETE' });
      release();
      expect(await agency.ended(id)).toMatchObject({ status: 'failed', error: { code: 'invalid_api_key' } });
      expect(upstream.received).toHaveLength(1);
    });

    it('it uses what it may cost for more than one call', async () => {
      upstream.reply = echo;
      const { id } = await agency.start(two, { max_cost_usd: 0.01 });
      expect(await agency.ended(id)).toMatchObject({ status: 'completed', output: 'b(a(the input))' });
    });

    it('what failed or was not needed does not count against what it may cost', async () => {
      upstream.reply = (request) =>
        askedAs(request) === 'a' ? { status: 400, body: { error: { message: 'no' } } } : echo(request);
      const branches = ['a', 'b'].map((agent) => ({ pattern: 'single', agent }));
      const workflow = {
        pattern: 'sequential',
        steps: [
          { pattern: 'parallel', join: 'any', branches },
          { pattern: 'single', agent: 'c', input: '{{steps.b}}' },
        ],
      };
      expect(await agency.run(workflow, { max_cost_usd: 0.01 })).toMatchObject({ output: 'c(b(the input))' });
    });

    it('its deadline ends it', async () => {
      slow('b');
      const { id } = await agency.start(two, { deadline: new Date(Date.now() + 2_000).toISOString() });
      const ended = await agency.ended(id);
      expect(ended).toMatchObject({ status: 'failed', error: { code: 'deadline_exceeded' } });
    });
  });

  describe('its events', () => {
    const two = { pattern: 'sequential', steps: ['a', 'b'].map((agent) => ({ pattern: 'single', agent })) };
    const read = async (id: string, query = '', headers = {}) => {
      const response = await gateway.fetch(`/workflows/${id}/events${query}`, { headers });
      const text = await response.text();
      return text
        .split('\n\n')
        .filter(Boolean)
        .map((event) => {
          const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(event)?.[1] ?? '';
          return { id: Number(field('id')), event: field('event'), data: JSON.parse(field('data')) };
        });
    };

    it('are told as they happen, in order, until its end', async () => {
      const { id } = await agency.start(two);
      const events = await read(id);
      const told = (kind: string) =>
        events
          .filter(({ event }) => event === kind)
          .map(({ data }) => [data.step, data.status ?? data.state].join(' ').trim());
      expect(told('state')).toEqual(['queued', 'running', 'completed']);
      expect(told('step')).toEqual([
        'sequential running',
        'a running',
        'a completed',
        'b running',
        'b completed',
        'sequential completed',
      ]);
      expect(events.map((event) => event.id)).toEqual(events.map((_, index) => index));
      expect(await read(id, '?starting_after=4')).toEqual(events.slice(5));
      expect(await read(id, '', { 'last-event-id': '6' })).toEqual(events.slice(7));
    });

    it('are told over a WebSocket too, of any run', async () => {
      const { id } = await agency.start(two);
      const events = await read(id);
      const socketOf = async (run: string, query = '') => {
        const url = `${gateway.url.replace('http', 'ws')}/ws/executions/${run}${query}`;
        const socket = new WebSocket(url, { headers: { authorization: `Bearer ${MASTER_KEY}` } });
        const messages: Json[] = [];
        socket.addEventListener('message', ({ data }) => messages.push(JSON.parse(data)));
        await new Promise((resolve) => socket.addEventListener('close', resolve));
        return messages;
      };
      expect(await socketOf(id)).toEqual(events);
      expect(await socketOf(id, '?starting_after=5')).toEqual(events.slice(6));
      expect(await socketOf('pipe-none')).toEqual([]);
      const body = { model: 'gpt-5-mini', messages: [{ role: 'user', content: 'hi' }] };
      const job = await agency.post('/v1/jobs', { endpoint: '/v1/chat/completions', body });
      expect((await socketOf(job.id)).at(-1)).toMatchObject({ event: 'state', data: { state: 'completed' } });
    });
  });

  it('a step may be called anything', async () => {
    const steps = ['constructor', 'toString'].map((name) => ({ pattern: 'single', name, agent: 'a' }));
    const ended = await agency.run({ pattern: 'sequential', name: 'valueOf', steps });
    expect(ended).toMatchObject({ status: 'completed', output: 'a(a(the input))' });
  });

  it('a supervisor that is asked again hands out anew', async () => {
    let turn = 0;
    upstream.reply = (request) => {
      if (askedAs(request) !== 'a') return echo(request);
      turn += 1;
      // The first time it fails once its workers are done; then it hands out in another order.
      if (turn === 2) return { status: 400, body: { error: { message: 'no' } } };
      const results = request.body.messages.filter(({ role }: Json) => role === 'tool');
      if (results.length > 0) return { body: openaiCompletion(results.map(({ content }: Json) => content).join('|')) };
      const names = turn === 1 ? ['b', 'c'] : ['c', 'b'];
      return { body: openaiToolCalls(...names.map((name) => [name, { task: name }] as const)) };
    };
    const failed = await agency.run({ pattern: 'supervisor', coordinator: 'a', workers: ['b', 'c'] });
    expect(failed.status).toBe('failed');
    const { id } = await agency.post(`/workflows/${failed.id}/retry`);
    expect(await agency.ended(id)).toMatchObject({ status: 'completed', output: 'c(c)|b(b)' });
  });

  it('is a job too', async () => {
    const workflow = { pattern: 'single', agent: 'a' };
    const job = await agency.post('/v1/jobs', { endpoint: '/workflows/start', body: { workflow, input: 'x' } });
    await agency.ended(job.id);
    const done = await gateway.json(`/v1/jobs/${job.id}`);
    expect(done).toMatchObject({ endpoint: '/workflows/start', status: 'completed', result: { output: 'a(x)' } });
    const { id } = await agency.post(`/v1/jobs/${job.id}/rerun`);
    expect(await agency.ended(id)).toMatchObject({ rerun_of: job.id, output: 'a(x)' });
  });

  it('is started once under an Idempotency-Key', async () => {
    const json = { workflow: { pattern: 'single', agent: 'a' }, input: 'once' };
    const headers = { 'idempotency-key': crypto.randomUUID() };
    const started = await Promise.all(
      Array.from({ length: 5 }, () => gateway.json('/workflows/start', { json, headers })),
    );
    expect(new Set(started.map(({ id }) => id)).size).toBe(1);
    await agency.ended(started[0].id);
    expect(upstream.received).toHaveLength(1);
  });

  it('nested too deeply is refused', async () => {
    let workflow: object = { pattern: 'single', agent: 'a' };
    for (let depth = 0; depth < 10; depth += 1) workflow = { pattern: 'sequential', steps: [workflow] };
    expect(await agency.start(workflow)).toMatchObject({ error: { type: 'invalid_request_error' } });
    const deep = `${'{"pattern":"sequential","steps":['.repeat(20_000)}${']}'.repeat(20_000)}`;
    const body = `{"input":"x","workflow":${deep}}`;
    const headers = { 'content-type': 'application/json' };
    const response = await gateway.fetch('/workflows/start', { method: 'POST', body, headers });
    expect(response.status).toBe(400);
  });

  it('belongs to the team that started it', async () => {
    const teamKey = async () =>
      (await gateway.json('/config/virtual-keys', { json: { name: 'k', team: crypto.randomUUID() } })).key;
    const [mine, other] = [new Agency(gateway, await teamKey()), new Agency(gateway, await teamKey())];
    await mine.agent('ours');
    const ended = await mine.run({ pattern: 'single', agent: 'ours' });
    expect(ended.output).toBe('ours(the input)');
    expect(await other.get(ended.id)).toMatchObject({ error: { code: 'not_found' } });
    expect(await other.start({ pattern: 'single', agent: 'ours' })).toMatchObject({ error: { param: 'workflow' } });
    // The master key's agents are everybody's.
    expect(await other.run({ pattern: 'single', agent: 'a' })).toMatchObject({ output: 'a(the input)' });
  });

  it.each([
    [{ pattern: 'single', agent: 'nobody' }, 'workflow'],
    [{ pattern: 'sequential', steps: [] }, 'workflow.steps'],
    [{ pattern: 'dance' }, 'workflow.pattern'],
    [
      { pattern: 'parallel', branches: [{ pattern: 'single', agent: 'a' }], join: { quorum: 2 } },
      'workflow.join.quorum',
    ],
    [{ pattern: 'single', agent: 'a', input: '{{steps.b}}' }, 'workflow.input'],
    [{ pattern: 'single', agent: 'nul\0' }, null],
    [{ pattern: 'supervisor', coordinator: 'far', workers: ['a'] }, 'workflow'],
    [
      {
        pattern: 'sequential',
        steps: [
          { pattern: 'single', agent: 'a', input: '{{steps.b}}' },
          { pattern: 'single', agent: 'b' },
        ],
      },
      'workflow.steps[0].input',
    ],
    [
      { pattern: 'parallel', branches: ['a', 'a'].map((agent) => ({ pattern: 'single', name: 'same', agent })) },
      'workflow.branches[1].name',
    ],
  ])('that makes no sense is refused: %o', async (workflow, param) => {
    expect(await agency.start(workflow)).toMatchObject({ error: { type: 'invalid_request_error', param } });
    expect(upstream.received).toEqual([]);
  });
});
