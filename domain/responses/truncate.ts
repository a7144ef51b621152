import type { Message, ModelRequest } from '../chat.ts';

export interface Fit {
  /** Tokens of input and output together. */
  readonly contextWindow: number;
  /** Tokens kept free for the answer. */
  readonly outputLimit: number;
  /** Input tokens of a request, estimated. Fewer messages must not count for more. */
  readonly estimate: (request: ModelRequest) => number;
}

/**
 * The request without as many of its oldest messages as it takes to fit the context window. What leads (system and
 * developer messages), the last user message and the newest message stay, and calls stay with their outputs. If it
 * cannot fit, as little is left of it as may be, and the provider has the last word.
 */
export function truncateToFit(request: ModelRequest, { contextWindow, outputLimit, estimate }: Fit): ModelRequest {
  const room = contextWindow - outputLimit;
  const without = (dropped: readonly Message[]): ModelRequest => {
    const gone = new Set(dropped);
    return { ...request, messages: request.messages.filter((message) => !gone.has(message)) };
  };
  if (estimate(request) <= room) return request;
  const units = droppableUnits(request.messages);
  // Halving the range, because a count reads the whole request.
  let [fewest, most] = [0, units.length];
  while (fewest < most) {
    const middle = Math.floor((fewest + most) / 2);
    if (estimate(without(units.slice(0, middle).flat())) <= room) most = middle;
    else fewest = middle + 1;
  }
  return without(units.slice(0, fewest).flat());
}

/** What may go, in the order in which it goes. */
function droppableUnits(messages: readonly Message[]): readonly (readonly Message[])[] {
  const leading = messages.findIndex(({ role }) => role !== 'system' && role !== 'developer');
  if (leading < 0) return [];
  const lastUser = messages.findLastIndex(({ role }) => role === 'user');
  const earlier = messages.slice(leading, Math.max(leading, lastUser));
  const later = messages.slice(Math.max(leading, lastUser + 1));
  return [
    // Whole turns, because some providers want a conversation to begin with its user.
    ...groupsOf(earlier, ({ role }) => role === 'user'),
    ...groupsOf(later, ({ role }) => role !== 'tool').slice(0, -1),
  ];
}

/** Cuts the list before every message that begins a group. */
function groupsOf(messages: readonly Message[], begins: (message: Message) => boolean): Message[][] {
  const groups: Message[][] = [];
  for (const message of messages) {
    const last = groups.at(-1);
    if (last && !begins(message)) last.push(message);
    else groups.push([message]);
  }
  return groups;
}
