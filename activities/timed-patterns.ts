import { createContext, Script } from 'node:vm';

/** Milliseconds one text may be matched for. Some patterns take hours for a short text, and meanwhile all else waits. */
const LIMIT_MS = 50;

const context = createContext({});
const match = new Script('new RegExp(pattern, flags).test(text)');

export interface TimedPattern {
  test(text: string): boolean;
  toString(): string;
}

/** Makes a regular expression of somebody else's pattern. Throws for one that is none; a match that takes too long throws. */
export function timedPattern(pattern: string): TimedPattern {
  const flags = flagsOf(pattern);
  return {
    test(text) {
      Object.assign(context, { pattern, flags, text });
      return match.runInContext(context, { timeout: LIMIT_MS }) as boolean;
    },
    // By which a validator tells patterns apart.
    toString: () => `/${pattern}/${flags}`,
  };
}

/** JSON schema has Unicode patterns; many are written for engines that are less strict. */
function flagsOf(pattern: string): string {
  try {
    new RegExp(pattern, 'u');
    return 'u';
  } catch {
    new RegExp(pattern);
    return '';
  }
}
