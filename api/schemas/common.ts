import { z } from 'zod';

export const limit = z.coerce.number().int().min(1).max(500).default(50);
export const cursor = z.string().optional();

/** An ISO date or date-time, or seconds since the epoch. */
export const instant = z.string().transform((text, context) => {
  const date = /^\d+$/.test(text) ? new Date(Number(text) * 1000) : new Date(text);
  if (!Number.isNaN(date.getTime())) return date;
  context.addIssue({ code: 'custom', message: 'must be an ISO date or seconds since the epoch' });
  return z.NEVER;
});

export const errorEnvelope = z.object({
  error: z.object({ message: z.string(), type: z.string(), param: z.string().nullable(), code: z.string() }),
});
