import type { ModelRequest } from '../domain/chat.ts';

/** Tokens of an image of ordinary size; providers bill between 85 and 5,000. */
const TYPICAL_IMAGE_TOKENS = 800;

/**
 * Counts tokens with OpenAI's o200k vocabulary, which is close to the other vendors' and theirs are not public. Only
 * for usage that a provider did not report. The vocabulary loads on first use (about 0.2 s and 40 MB).
 */
export async function countTokens(text: string): Promise<number> {
  if (text === '') return 0;
  const { countTokens: count } = await import('gpt-tokenizer/encoding/o200k_base');
  return count(text, { allowedSpecial: 'all' });
}

export async function countRequestTokens(request: ModelRequest): Promise<number> {
  let images = 0;
  const text = JSON.stringify([request.messages, request.tools ?? []], (_key, value: unknown) => {
    const isImage = typeof value === 'object' && value !== null && 'image_url' in value;
    if (!isImage) return value;
    images += 1;
    return undefined;
  });
  return (await countTokens(text)) + images * TYPICAL_IMAGE_TOKENS;
}
