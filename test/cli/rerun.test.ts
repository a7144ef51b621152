import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FixtureServer } from '../support/fixture-server.ts';
import { HoldfastProcess } from '../support/process.ts';

describe('holdfast rerun', () => {
  const gateway = new FixtureServer();
  beforeAll(() => gateway.start());
  beforeEach(() => gateway.reset());
  afterAll(() => gateway.stop());

  const rerun = async (...args: readonly string[]) => {
    const env = { GATEWAY_PORT: new URL(gateway.url).port, GATEWAY_MASTER_KEY: 'sk-master-for-tests' };
    const command = new HoldfastProcess(['rerun', ...args], env);
    return { code: await command.ended, stdout: command.stdout, stderr: command.stderr };
  };

  it('asks the gateway to go on from a step, and prints the new run', async () => {
    gateway.reply = () => ({ body: { id: 'wf-2', status: 'queued' } });
    expect(await rerun('wf 1', '--from', 'review')).toEqual({ code: 0, stdout: 'wf-2\n', stderr: '' });
    expect(gateway.received).toMatchObject([
      {
        method: 'POST',
        path: '/workflows/wf 1/retry',
        headers: { authorization: 'Bearer sk-master-for-tests' },
        body: { from: 'review' },
      },
    ]);
  });

  it('says what the gateway says against it', async () => {
    gateway.reply = () => ({ status: 409, body: { error: { message: 'The run is not over.' } } });
    expect(await rerun('wf-1', '--from', 'review')).toEqual({ code: 1, stdout: '', stderr: 'The run is not over.\n' });
  });

  it('wants to know the step', async () => {
    const { code, stderr } = await rerun('wf-1');
    expect(code).toBe(1);
    expect(stderr).toContain("required option '--from <step>' not specified");
    expect(gateway.received).toEqual([]);
  });
});
