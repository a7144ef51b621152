/**
 * Milliseconds from now until a server wants to be asked again: its `retry-after-ms`, or its `retry-after` (seconds or
 * an HTTP date); undefined if it does not say.
 */
export function retryAfterMs(header: (name: string) => string | null | undefined): number | undefined {
  const milliseconds = Number.parseFloat(header('retry-after-ms') ?? '');
  if (milliseconds >= 0) return milliseconds;
  const text = header('retry-after');
  if (!text) return undefined;
  const seconds = Number(text);
  if (seconds >= 0) return seconds * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}
