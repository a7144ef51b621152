import { describe, expect, it } from 'vitest';
import { Entrance } from '../../api/runs/entrance.ts';

const gate = () => {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
};

describe('the entrance', () => {
  it('lets a few in at a time, in the order they came, and the next as soon as one is through', async () => {
    const entrance = new Entrance({ width: 2, patienceMs: 60_000 });
    const begun: number[] = [];
    const gates = Array.from({ length: 5 }, gate);
    const passing = gates.map(({ opened }, i) =>
      entrance.pass(async () => {
        begun.push(i);
        await opened;
        return i;
      }),
    );
    await Promise.resolve();
    expect(begun).toEqual([0, 1]);
    gates[1]?.open();
    await passing[1];
    await Promise.resolve();
    expect(begun).toEqual([0, 1, 2]);
    for (const { open } of gates) open();
    expect(await Promise.all(passing)).toEqual([0, 1, 2, 3, 4]);
    expect(begun).toEqual([0, 1, 2, 3, 4]);
  });

  it('hands its place on when one fails', async () => {
    const entrance = new Entrance({ width: 1, patienceMs: 60_000 });
    const failing = entrance.pass(async () => {
      throw new Error('no');
    });
    const next = entrance.pass(async () => 'in');
    await expect(failing).rejects.toThrow('no');
    expect(await next).toBe('in');
    expect(await entrance.pass(async () => 'and again')).toBe('and again');
  });

  it('turns away who waited too long, and says when to come back; nobody loses a place by that', async () => {
    const entrance = new Entrance({ width: 1, patienceMs: 20 });
    const { open, opened } = gate();
    const inside = entrance.pass(() => opened);
    const refused = await entrance.pass(async () => 'never').catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'gateway_unavailable', retryAfterMs: 2_000 });
    const later = entrance.pass(async () => 'in');
    open();
    await inside;
    expect(await later).toBe('in');
  });
});
