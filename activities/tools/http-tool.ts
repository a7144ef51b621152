import type { HttpTool } from '../../domain/tool.ts';
import type { RequestTerms } from '../guarded-request.ts';
import { askForText, type TextAnswer } from '../text-answer.ts';
import { type ToolArguments, toToolRequest, UnusableArguments } from './tool-request.ts';

export interface ToolCallTerms extends Pick<RequestTerms, 'addresses' | 'signal'> {
  /** The same for each request of a call, so that the other side does it once. */
  readonly idempotencyKey: string;
}

/**
 * Makes one request of a call. Its arguments have been checked by `argumentProblem`. Rejects with the signal's reason
 * when that is aborted.
 */
export async function callHttpTool(
  tool: HttpTool,
  args: ToolArguments,
  { idempotencyKey, ...terms }: ToolCallTerms,
): Promise<TextAnswer> {
  try {
    const request = toToolRequest(tool, args, idempotencyKey);
    const answer = await askForText(request, { ...terms, timeoutMs: tool.timeoutMs });
    return answer.outcome === 'answered' ? { ...answer, text: withoutSecrets(answer.text, tool) } : answer;
  } catch (error) {
    if (error instanceof UnusableArguments) return { outcome: 'refused', reason: error.message };
    throw error;
  }
}

/** Headers whose values say nothing worth hiding. */
const PLAIN = /^(accept|accept-[a-z]+|content-type|user-agent)$/;
/** Shorter values would be found in what is no secret. */
const MIN_SECRET_CHARACTERS = 8;

/** A text without the credentials of who was asked: some servers answer with the headers they got, and models read that. */
export function withoutSecrets(text: string, { headers = {} }: Pick<HttpTool, 'headers'>): string {
  const values = Object.entries(headers).flatMap(([name, value]) => (PLAIN.test(name) ? [] : [value]));
  const secrets = values.flatMap((value) => [value, ...value.split(' ')]);
  return secrets
    .filter(({ length }) => length >= MIN_SECRET_CHARACTERS)
    .reduce((rest, secret) => rest.replaceAll(secret, '[redacted]'), text);
}
