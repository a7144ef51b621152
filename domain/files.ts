/** What callers upload files for, as OpenAI names it. */
export const UPLOAD_PURPOSES = ['batch', 'user_data', 'assistants', 'vision', 'fine-tune', 'evals'] as const;

/** What a file is for: uploaded, or written by a batch. */
export const FILE_PURPOSES = [...UPLOAD_PURPOSES, 'batch_output'] as const;

export type FilePurpose = (typeof FILE_PURPOSES)[number];

const HOUR_SECONDS = 3_600;

/** Seconds that a caller may ask a file to be kept, as OpenAI has it. */
export const KEEP_SECONDS = { min: HOUR_SECONDS, max: 30 * 24 * HOUR_SECONDS } as const;

/** Seconds that a file is kept when nobody says how long: OpenAI's rule. null is until it is deleted. */
export const defaultKeepSeconds = (purpose: FilePurpose): number | null =>
  purpose === 'batch' || purpose === 'batch_output' ? KEEP_SECONDS.max : null;
