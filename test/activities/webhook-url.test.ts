import type dns from 'node:dns';
import { describe, expect, it } from 'vitest';
import { ANY_ADDRESS, publicAddresses } from '../../activities/address-policy.ts';
import { lookupWithin } from '../../activities/guarded-request.ts';
import { checkWebhookSecret, checkWebhookUrl } from '../../activities/webhook-url.ts';

const problemOf = (url: string, allowed: string[] = []) => {
  try {
    checkWebhookUrl(url, allowed);
    return 'none';
  } catch (error) {
    const { code, param, message } = error as { code: string; param: string; message: string };
    expect({ code, param }).toEqual({ code: 'caller_invalid_request', param: 'webhook.url' });
    return message;
  }
};

describe('the URL of a receiver', () => {
  it.each([
    'https://hooks.example.com/a?token=b',
    'http://hooks.example.com:8080/',
    'https://8.8.8.8/',
    'https://[2606:4700:4700::1111]/',
  ])('may be %s', (url) => expect(problemOf(url)).toBe('none'));

  it.each([
    ['nonsense', 'not a URL'],
    ['ftp://hooks.example.com/', 'http'],
    ['file:///etc/passwd', 'http'],
    ['data:text/plain,hi', 'http'],
    ['https://user:password@hooks.example.com/', 'user name or password'],
    ['https://user@hooks.example.com/', 'user name or password'],
  ])('may not be %s', (url, problem) => expect(problemOf(url)).toContain(problem));

  it.each([
    'http://127.0.0.1/',
    'http://127.8.9.1:8000/',
    'http://127.1/',
    'http://2130706433/',
    'http://0x7f000001/',
    'http://0177.0.0.1/',
    'http://①②⑦.⓪.⓪.①/',
    'http://127.0.0.1./',
    'http://0.0.0.0/',
    'http://0/',
    'http://10.1.2.3/',
    'http://172.16.0.1/',
    'http://192.168.1.1/',
    'http://100.64.0.1/',
    'http://169.254.169.254/latest/meta-data/',
    'http://100.100.100.200/',
    'http://168.63.129.16/',
    'http://192.0.0.192/',
    'http://192.0.2.1/',
    'http://192.88.99.1/',
    'http://198.18.0.1/',
    'http://203.0.113.1/',
    'http://224.0.0.1/',
    'http://240.0.0.1/',
    'http://255.255.255.255/',
    'http://[::]/',
    'http://[::1]/',
    'http://[::127.0.0.1]/',
    'http://[::ffff:127.0.0.1]/',
    'http://[::ffff:7f00:1]/',
    'http://[::ffff:0:127.0.0.1]/',
    'http://[64:ff9b::127.0.0.1]/',
    'http://[64:ff9b:1::1]/',
    'http://[2002:7f00:1::]/',
    'http://[2001::1]/',
    'http://[2001:db8::1]/',
    'http://[3fff::1]/',
    'http://[fe80::1]/',
    'http://[fec0::1]/',
    'http://[fc00::1]/',
    'http://[fd00:ec2::254]/',
    'http://[ff02::1]/',
    'http://[100::1]/',
    'http://[5f00::1]/',
    'http://[4000::1]/',
  ])('may not be %s, which is no public address', (url) => expect(problemOf(url)).toContain('not public'));

  it('may be private where the operator allows the address or its network', () => {
    expect(problemOf('http://10.1.2.3/', ['10.0.0.0/8'])).toBe('none');
    expect(problemOf('http://[::ffff:10.1.2.3]/', ['10.0.0.0/8'])).toBe('none');
    expect(problemOf('http://127.0.0.1/', ['127.0.0.1'])).toBe('none');
    expect(problemOf('http://[fd12::1]/', ['fd12::/16'])).toBe('none');
    expect(problemOf('http://11.1.2.3/', ['10.0.0.0/8'])).toBe('none');
    expect(problemOf('http://127.0.0.2/', ['10.0.0.0/8', '127.0.0.1', 'fd12::/16'])).toContain('not public');
    expect(problemOf('http://[fd13::1]/', ['fd12::/16', '0.0.0.0/0'])).toContain('not public');
  });
});

describe('a name, when a connection is made,', () => {
  type Resolve = typeof dns.lookup;
  const resolveTo = (...found: readonly string[]): Resolve =>
    ((_host: string, _options: object, callback: (error: null, found: object[]) => void) =>
      callback(
        null,
        found.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
      )) as unknown as Resolve;
  const lookup = (host: string, found: readonly string[], allowed: string[] = [], all = true) =>
    new Promise((resolve) =>
      lookupWithin(publicAddresses(allowed), resolveTo(...found))(host, { all }, (error, address) =>
        resolve(error ? error.message : address),
      ),
    );

  it('stands for its public addresses', async () => {
    expect(await lookup('a.test', ['8.8.8.8', '2606:4700::1'])).toEqual([
      { address: '8.8.8.8', family: 4 },
      { address: '2606:4700::1', family: 6 },
    ]);
    expect(await lookup('a.test', ['8.8.8.8'], [], false)).toBe('8.8.8.8');
  });

  it('is refused for one address that is not public, without telling which', async () => {
    for (const address of ['127.0.0.1', '10.0.0.1', '169.254.169.254', '::1', 'fd00::1', '::ffff:10.0.0.1']) {
      for (const all of [true, false]) {
        const told = await lookup('a.test', ['8.8.8.8', address], [], all);
        expect(told).toContain('not public');
        expect(told).not.toContain(address);
      }
    }
  });

  it('may have any address if the operator allows the name', async () => {
    expect(await lookup('Hooks.Internal.', ['10.0.0.1'], ['hooks.internal'])).toMatchObject([{ address: '10.0.0.1' }]);
    expect(await lookup('evil.hooks.internal', ['10.0.0.1'], ['hooks.internal'])).toContain('not public');
  });

  it('is refused without an address', async () => {
    expect(await lookup('a.test', [])).toContain('no address');
  });

  it('may have any address in what the operator configured itself', () => {
    expect(ANY_ADDRESS.allows('a.test', '127.0.0.1')).toBe(true);
  });
});

describe('the secret of a receiver', () => {
  it('is whsec_ and base64', () => {
    checkWebhookSecret(`whsec_${Buffer.from('twenty-four bytes or more').toString('base64')}`);
    for (const secret of ['', 'whsec_', 'whsec_*', 'not a secret!']) {
      expect(() => checkWebhookSecret(secret)).toThrow(expect.objectContaining({ param: 'webhook.secret' }));
    }
  });
});
