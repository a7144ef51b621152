const REDACTED = '[redacted]';

/** Field names, without case and separators, whose values are secrets or what somebody wrote to a model. */
const SECRET_NAMES =
  /^(key|keys|authorization|cookie|credentials?|passphrase|prompts?|systemprompt|messages|content|contents|payload|comment|input|instructions|template|text)$|(apikey|accesskey|accesskeyid|privatekey|secretkey|masterkey|encryptionkey|secret|password|token|credentials?|prompt)$/;
/** Keys of ours, of providers and of AWS, JSON web tokens, PEM blocks, and passwords in URLs, wherever they stand. */
const SECRET_VALUES =
  /:\/\/[^\s/:@]*:[^\s/@]+@|\b[spr]k-[\w-]{6,}|\bAIza[\w-]{10,}|\beyJ[\w-]+\.[\w-]+\.|-----BEGIN |\b(AKIA|ASIA)[A-Z0-9]{12,}/;

/** `value` without secrets and prompts: names of fields stay, what was in them does not. */
export function redact(value: unknown): unknown {
  if (typeof value === 'string') return SECRET_VALUES.test(value) ? REDACTED : value;
  if (Array.isArray(value)) return value.map(redact);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, isSecret(name) && inner !== null ? REDACTED : redact(inner)]),
  );
}

const isSecret = (name: string): boolean => SECRET_NAMES.test(name.toLowerCase().replaceAll(/[^a-z0-9]/g, ''));
