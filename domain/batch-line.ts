import { z } from 'zod';
import type { InputProblem } from './batch.ts';

/** A line of a batch's input as far as it is the same for all endpoints. */
export interface InputLine {
  readonly customId: string;
  readonly body: Readonly<Record<string, unknown>>;
}

export type ReadLine =
  | InputLine
  /** With the `custom_id`, if that much could be read. */
  | { readonly problem: InputProblem; readonly customId: string | null };

const MAX_CUSTOM_ID_CHARACTERS = 512;

const customIdSchema = z
  .string()
  .min(1)
  .max(MAX_CUSTOM_ID_CHARACTERS)
  // Text in Postgres holds none.
  .refine((id) => !id.includes('\0'));
const bodySchema = z.record(z.string(), z.unknown());

/** Reads line `n` of a batch for `endpoint`; the body is not looked into. */
export function readLine(text: string, n: number, endpoint: string): ReadLine {
  const line = parsed(text);
  if (!line) return refused(null, { n, code: 'invalid_json_line', message: 'is not a JSON object' });
  const { success, data: customId = null } = customIdSchema.safeParse(line.custom_id);
  if (!success) {
    const message =
      line.custom_id === undefined
        ? 'has no custom_id'
        : `has a custom_id that is not a text of 1 to ${MAX_CUSTOM_ID_CHARACTERS} characters`;
    return refused(null, { n, code: 'invalid_custom_id', message, param: 'custom_id' });
  }
  if (line.method !== 'POST') {
    return refused(customId, { n, code: 'invalid_method', message: "must have the method 'POST'", param: 'method' });
  }
  if (line.url !== endpoint) {
    const message = `must have the url of the batch's endpoint, '${endpoint}'`;
    return refused(customId, { n, code: 'invalid_url', message, param: 'url' });
  }
  const body = bodySchema.safeParse(line.body);
  if (!body.success) {
    return refused(customId, { n, code: 'invalid_body', message: 'has a body that is not an object', param: 'body' });
  }
  return { customId: customId ?? '', body: body.data };
}

function parsed(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    return bodySchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

const refused = (
  customId: string | null,
  { n, code, message, param = null }: { n: number; code: string; message: string; param?: string | null },
): ReadLine => ({ customId, problem: { code, message: `Line ${n} ${message}.`, line: n, param } });
