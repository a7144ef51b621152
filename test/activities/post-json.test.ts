import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ANY_ADDRESS, publicAddresses } from '../../activities/address-policy.ts';
import { postJson } from '../../activities/post-json.ts';
import { FixtureServer } from '../support/fixture-server.ts';

const server = new FixtureServer();
beforeAll(() => server.start());
beforeEach(() => server.reset());
afterAll(() => server.stop());

const post = (path: string, { timeoutMs = 5_000, addresses = ANY_ADDRESS } = {}) =>
  postJson(server.url + path, { headers: { 'x-a': 'b' }, body: '{"n":1}' }, { timeoutMs, addresses });

describe('a post to somebody else’s URL', () => {
  it('is sent as it is and tells the status', async () => {
    server.reply = () => ({ status: 201 });
    expect(await post('/here?a=b')).toEqual({ outcome: 'answered', status: 201, retryAfterMs: undefined });
    expect(server.last).toMatchObject({
      method: 'POST',
      path: '/here?a=b',
      headers: { 'content-type': 'application/json', 'x-a': 'b' },
      body: { n: 1 },
    });
  });

  it('follows no redirect', async () => {
    server.reply = ({ path }) => (path === '/first' ? { status: 307, headers: { location: '/second' } } : {});
    expect(await post('/first')).toMatchObject({ outcome: 'answered', status: 307 });
    expect(server.received.map(({ path }) => path)).toEqual(['/first']);
  });

  it('is not sent to an address that is not allowed, by number or by name', async () => {
    const addresses = publicAddresses([]);
    const { port } = new URL(server.url);
    for (const url of [server.url, `http://localhost:${port}`, `http://2130706433:${port}`]) {
      const posted = await postJson(url, { headers: {}, body: '{}' }, { timeoutMs: 5_000, addresses });
      expect(posted).toMatchObject({ outcome: 'refused', reason: expect.stringContaining('not public') });
    }
    expect(server.received).toEqual([]);
    expect(await post('/', { addresses: publicAddresses(['127.0.0.0/8']) })).toMatchObject({ outcome: 'answered' });
  });

  it('says when the receiver wants to be asked again', async () => {
    server.reply = () => ({ status: 503, headers: { 'retry-after': '120' } });
    expect(await post('/')).toEqual({ outcome: 'answered', status: 503, retryAfterMs: 120_000 });
  });

  it('gives up after its time, whatever the receiver does with it', async () => {
    server.reply = () => ({ delayMs: 5_000 });
    expect(await post('/', { timeoutMs: 200 })).toEqual({ outcome: 'unanswered', reason: 'timeout' });
    server.reply = () => ({ chunks: Array(100).fill('drip'), intervalMs: 50 });
    const startedAt = Date.now();
    expect(await post('/', { timeoutMs: 300 })).toMatchObject({ outcome: 'answered', status: 200 });
    expect(Date.now() - startedAt).toBeLessThan(2_000);
  });

  it('does not read an answer without end', async () => {
    server.reply = () => ({ body: Buffer.alloc(50_000_000) });
    expect(await post('/')).toMatchObject({ outcome: 'answered', status: 200 });
  });

  it('says why there was no answer', async () => {
    const closed = new FixtureServer();
    await closed.start();
    const { url } = closed;
    await closed.stop();
    const posting = { timeoutMs: 5_000, addresses: ANY_ADDRESS };
    const posted = await postJson(url, { headers: {}, body: '{}' }, posting);
    expect(posted).toEqual({ outcome: 'unanswered', reason: 'ECONNREFUSED' });
  });
});
