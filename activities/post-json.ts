import { retryAfterMs } from '../domain/retry-after.ts';
import { guardedRequest, type NoAnswer, type RequestTerms } from './guarded-request.ts';

export interface Post {
  readonly headers: Readonly<Record<string, string>>;
  /** JSON text, sent as it is. */
  readonly body: string;
}

export type Posting = Pick<RequestTerms, 'timeoutMs' | 'addresses'>;

/** What became of a post. */
export type Posted =
  | { readonly outcome: 'answered'; readonly status: number; readonly retryAfterMs: number | undefined }
  | NoAnswer;

/** Bytes of an answer that are read, so that an honest receiver is not cut off; nobody looks at them. */
const MAX_ANSWER_BYTES = 4 * 1024;

/** Posts to a URL that somebody else chose. What the receiver says besides its status goes nowhere. */
export function postJson(url: string, post: Post, posting: Posting): Promise<Posted> {
  const headers = { 'content-type': 'application/json', ...post.headers };
  return guardedRequest<Posted>({ url, method: 'POST', headers, body: post.body }, posting, async (answer) => {
    await answer.body.dump({ limit: MAX_ANSWER_BYTES }).catch(() => {});
    const header = (name: string) => [answer.headers[name]].flat()[0];
    return { outcome: 'answered', status: answer.statusCode, retryAfterMs: retryAfterMs(header) };
  });
}
