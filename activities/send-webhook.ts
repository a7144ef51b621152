import { Webhook } from 'standardwebhooks';
import { toSeconds } from '../domain/time.ts';
import { type Posted, type Posting, postJson } from './post-json.ts';

export interface WebhookMessage {
  /** The same however often it is sent, so that receivers can tell. */
  readonly id: string;
  readonly url: string;
  /** Signs it: `whsec_` and base64; undefined sends it unsigned. */
  readonly secret: string | undefined;
  /** JSON text, the same however often it is sent. */
  readonly body: string;
}

/** Sends a message once, as the Standard Webhooks specification has it. */
export function sendWebhook({ id, url, secret, body }: WebhookMessage, posting: Posting): Promise<Posted> {
  const now = new Date();
  const headers = {
    'webhook-id': id,
    'webhook-timestamp': String(toSeconds(now)),
    ...(secret && { 'webhook-signature': new Webhook(secret).sign(id, now, body) }),
  };
  return postJson(url, { headers, body }, posting);
}

/** Whether the receiver took it: only a 2xx says so. */
export const wasTaken = (posted: Posted): boolean =>
  posted.outcome === 'answered' && posted.status >= 200 && posted.status <= 299;

/** Why the receiver did not take it. */
export const describePosted = (posted: Posted): string => {
  switch (posted.outcome) {
    case 'answered':
      return `status ${posted.status}`;
    case 'unanswered':
      return `no answer (${posted.reason})`;
    case 'refused':
      return posted.reason;
  }
};
