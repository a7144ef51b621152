import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Agency, askedAs, echo, lastMessage } from '../support/agents.ts';
import { FixtureServer, type Received } from '../support/fixture-server.ts';
import { eventually, type Json } from '../support/gateway.ts';
import type { HoldfastProcess } from '../support/process.ts';
import { openaiCompletion, openaiToolCalls } from '../support/shapes.ts';
import { canSplit, SplitGateway } from '../support/split-gateway.ts';

const single = (agent: string, input?: string) => ({ pattern: 'single', agent, ...(input && { input }) });

/** A workflow of each pattern, and the calls it makes at the same time, one group after the other. */
const PATTERNS: Record<string, { workflow: object; groups: readonly (readonly string[])[]; output: string }> = {
  single: { workflow: single('a'), groups: [['a']], output: 'a(single)' },
  sequential: {
    workflow: { pattern: 'sequential', steps: [single('a'), single('b'), single('c')] },
    groups: [['a'], ['b'], ['c']],
    output: 'c(b(a(sequential)))',
  },
  parallel: {
    workflow: {
      pattern: 'parallel',
      branches: [single('a'), single('b')],
      merge: single('c', '{{steps.a}}+{{steps.b}}'),
    },
    groups: [['a', 'b'], ['c']],
    output: 'c(a(parallel)+b(parallel))',
  },
  supervisor: {
    workflow: { pattern: 'supervisor', coordinator: 'boss', workers: ['b', 'c'] },
    groups: [['boss'], ['b', 'c'], ['boss again']],
    output: 'b(supervisor)|c(supervisor)',
  },
  human_in_loop: {
    workflow: { pattern: 'sequential', steps: [single('a'), { pattern: 'human_in_loop', title: 'ok?' }, single('b')] },
    groups: [['a'], ['approval'], ['b']],
    output: 'b(a(human_in_loop))',
  },
};

describe.skipIf(!canSplit)(
  'a workflow of each pattern whose worker is killed in every step and after every step',
  () => {
    const upstream = new FixtureServer();
    let gateway: SplitGateway;
    let worker: HoldfastProcess;
    let agency: Agency;
    /** How often each call was made, as `pattern:call`. */
    const made = new Map<string, number>();
    let release = () => {};

    const callOf = ({ body }: Received): string => {
      const texts: string[] = body.messages.map(({ content }: Json) => content ?? '');
      const pattern = Object.keys(PATTERNS).find((name) => texts.some((text) => text.includes(name)));
      const again = body.messages.some(({ role }: Json) => role === 'tool');
      return `${pattern}:${askedAs({ body } as Received)}${again ? ' again' : ''}`;
    };
    const answerOf = (request: Received) => {
      if (askedAs(request) !== 'boss') return echo(request);
      const said = request.body.messages
        .filter(({ role }: Json) => role === 'tool')
        .map(({ content }: Json) => content);
      if (said.length > 0) return { body: openaiCompletion(said.join('|')) };
      const task = lastMessage(request);
      return { body: openaiToolCalls(['b', { task }], ['c', { task }]) };
    };
    const holdCalls = () => {
      const until = new Promise<void>((resolve) => {
        release = resolve;
      });
      upstream.reply = (request) => {
        const call = callOf(request);
        made.set(call, (made.get(call) ?? 0) + 1);
        return { ...answerOf(request), until };
      };
    };
    const killWorker = async () => {
      await worker.kill('SIGKILL');
      worker = await gateway.startWorker();
    };

    beforeAll(async () => {
      await upstream.start();
      gateway = await new SplitGateway(
        `providers:\n  openai: { type: openai, base_url: "${upstream.url}/v1", api_key: sk-up, default_model: gpt-5-mini }\nretry: { retry_delay: 0.1 }\n`,
      ).migrate();
      await gateway.startApi();
      worker = await gateway.startWorker();
      agency = new Agency(gateway);
      await agency.agents('a', 'b', 'c', 'boss');
    });
    afterAll(async () => {
      await gateway?.stop();
      await upstream.stop();
    });

    it('ends as it would have; what was finished is not called again, and every call is accounted for', async () => {
      holdCalls();
      const ids = new Map<string, string>();
      for (const [name, { workflow }] of Object.entries(PATTERNS)) {
        ids.set(name, (await agency.start(workflow, { input: name })).id);
      }
      const rounds = Math.max(...Object.values(PATTERNS).map(({ groups }) => groups.length));
      for (let round = 0; round < rounds; round += 1) {
        const open = Object.entries(PATTERNS).flatMap(([name, { groups }]) => {
          const [id, group] = [ids.get(name) ?? '', groups[round]];
          return group ? [{ id, name, calls: group.filter((call) => call !== 'approval') }] : [];
        });
        const calls = open.flatMap((one) => one.calls.map((call) => `${one.name}:${call}`));
        const asked = open.filter((one) => one.calls.length === 0);
        const allMade = (times: number) =>
          eventually(async () => calls.every((call) => made.get(call) === times), 40_000);

        // In the middle of each step.
        await allMade(1);
        for (const { id } of asked) await agency.pending(id);
        await killWorker();
        await allMade(2);

        // After it: nothing further begins while they are paused.
        await Promise.all(open.map(({ id }) => agency.post(`/workflows/${id}/pause`)));
        release();
        holdCalls();
        for (const { id } of asked) {
          const { id: approval_id } = await agency.pending(id);
          await agency.post('/approvals', { approval_id, decision: 'approve' });
        }
        for (const { id, calls: own } of open) {
          await eventually(async () => {
            const { data } = await gateway.json(`/workflows/${id}/history`);
            const ended = data.filter(({ type, status }: Json) => type === 'model_call' && status === 'completed');
            return (
              ended.length >= own.length &&
              data.every(({ type, status }: Json) => type !== 'model_call' || status === 'completed')
            );
          });
        }
        await killWorker();
        await Promise.all(open.map(({ id }) => agency.post(`/workflows/${id}/resume`)));
      }

      for (const [name, { output }] of Object.entries(PATTERNS)) {
        expect(await agency.ended(ids.get(name) ?? '')).toMatchObject({ status: 'completed', output });
      }
      const expected = Object.entries(PATTERNS).flatMap(([name, { groups }]) =>
        groups.flat().flatMap((call) => (call === 'approval' ? [] : [[`${name}:${call}`, 2] as const])),
      );
      expect(Object.fromEntries(made)).toEqual(Object.fromEntries(expected));
      for (const id of ids.values()) {
        const { data } = await gateway.json(`/workflows/${id}/history`);
        for (const { details } of data.filter(({ type }: Json) => type === 'model_call')) {
          expect(details.attempts.map(({ state }: Json) => state)).toEqual(['unknown', 'succeeded']);
        }
      }
    }, 180_000);
  },
);
