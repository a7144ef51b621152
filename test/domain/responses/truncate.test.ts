import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Message, ModelRequest } from '../../../domain/chat.ts';
import { truncateToFit } from '../../../domain/responses/truncate.ts';

const system: Message = { role: 'system', content: 's' };
const user = (content: string): Message => ({ role: 'user', content });
const said = (content: string): Message => ({ role: 'assistant', content });
const calls = (...ids: string[]): Message => ({
  role: 'assistant',
  content: ids.join(),
  tool_calls: ids.map((id) => ({ id, type: 'function', function: { name: 'f', arguments: '{}' } })),
});
const output = (id: string): Message => ({ role: 'tool', tool_call_id: id, content: id });

/** Every message counts for one token. */
const fitInto = (room: number, messages: Message[]): readonly Message[] =>
  truncateToFit({ messages }, { contextWindow: room + 10, outputLimit: 10, estimate: (r) => r.messages.length })
    .messages;

describe('truncateToFit', () => {
  it('leaves a request alone that fits', () => {
    const request: ModelRequest = { messages: [user('a')] };
    expect(truncateToFit(request, { contextWindow: 1, outputLimit: 0, estimate: () => 1 })).toBe(request);
  });

  it('drops the oldest turns, and no more than it must', () => {
    const [a, b, c] = [user('a'), user('b'), user('c')];
    const messages = [system, a, said('A'), b, said('B'), c];
    expect(fitInto(5, messages)).toEqual([system, b, said('B'), c]);
    expect(fitInto(3, messages)).toEqual([system, c]);
  });

  it('keeps what leads, the last user message and the newest message, even if that is too much', () => {
    const messages = [system, user('a'), said('A'), user('b'), calls('x'), output('x'), calls('y'), output('y')];
    expect(fitInto(0, messages)).toEqual([system, user('b'), calls('y'), output('y')]);
    expect(fitInto(0, [system])).toEqual([system]);
  });

  it('drops finished tool exchanges of a long last turn', () => {
    const messages = [user('a'), calls('x', 'y'), output('x'), output('y'), calls('z'), output('z')];
    expect(fitInto(5, messages)).toEqual([user('a'), calls('z'), output('z')]);
  });

  it('never separates calls from outputs and is minimal, whatever the conversation', () => {
    const turn = fc.tuple(fc.nat(3), fc.nat(2)).map(([exchanges, parallel]) => [
      user('u'),
      ...Array.from({ length: exchanges }, (_, e) => {
        const ids = Array.from({ length: parallel + 1 }, (_, p) => `${e}-${p}`);
        return [calls(...ids), ...ids.map(output)];
      }).flat(),
      said('ok'),
    ]);
    fc.assert(
      fc.property(fc.array(turn, { minLength: 1, maxLength: 5 }), fc.nat(30), (turns, room) => {
        const messages = [system, ...turns.flat()];
        const kept = fitInto(room, messages);
        expect(kept[0]).toBe(system);
        expect(kept[1]?.role).toBe('user');
        expect(kept.at(-1)).toBe(messages.at(-1));
        const open = new Set<string>();
        for (const message of kept) {
          if (message.role === 'tool') expect(open.delete(message.tool_call_id)).toBe(true);
          else expect(open.size).toBe(0);
          if (message.role === 'assistant') for (const { id } of message.tool_calls ?? []) open.add(id);
        }
        if (messages.length > room && kept.length > 3) expect(kept.length).toBeLessThanOrEqual(room);
      }),
    );
  });
});
