import type { Item } from './items.ts';

const PREFIXES: Readonly<Record<Item['type'], string>> = {
  message: 'msg',
  reasoning: 'rs',
  function_call: 'fc',
  function_call_output: 'fco',
  custom_tool_call: 'ctc',
  custom_tool_call_output: 'ctco',
};

/** An item's id follows from the response's, so that whoever renders the response finds the same one. */
export const itemId = (type: Item['type'], responseId: string, suffix: string | number): string =>
  `${PREFIXES[type]}_${responseId.replace(/^[a-z]+[-_]/, '')}_${suffix}`;
