import { Webhook } from 'standardwebhooks';
import { HoldfastError } from '../domain/errors.ts';
import { publicAddresses } from './address-policy.ts';
import { urlProblem } from './url-problem.ts';

/**
 * Throws `caller_invalid_request` for a URL that nothing would be delivered to.
 * @param allowedPrivateHosts `webhooks.allowed_private_hosts` of gateway.yaml.
 */
export function checkWebhookUrl(url: string, allowedPrivateHosts: readonly string[]): void {
  const problem = urlProblem(url, publicAddresses(allowedPrivateHosts));
  if (problem === undefined) return;
  throw new HoldfastError('caller_invalid_request', `The webhook's URL cannot be used. ${problem}`, {
    param: 'webhook.url',
  });
}

/** Throws `caller_invalid_request` for a secret that nothing could be signed with. */
export function checkWebhookSecret(secret: string): void {
  try {
    new Webhook(secret);
  } catch (cause) {
    throw new HoldfastError(
      'caller_invalid_request',
      "The webhook's secret must be 'whsec_' followed by base64, as https://www.standardwebhooks.com has it.",
      { param: 'webhook.secret', cause },
    );
  }
}
