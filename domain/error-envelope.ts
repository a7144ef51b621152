import { ERRORS, type ErrorInfo } from './errors.ts';

/** OpenAI's error envelope. */
export interface ErrorEnvelope {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string;
  };
}

export const toEnvelope = ({ code, message, param }: ErrorInfo): ErrorEnvelope => ({
  error: { message, type: ERRORS[code].type, param: param ?? null, code: ERRORS[code].code },
});
