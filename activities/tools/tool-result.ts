import type { TextAnswer } from '../text-answer.ts';

/** What a model is told of a call: what the tool said, or why there is nothing from it. */
export function toToolText(answer: TextAnswer): string {
  switch (answer.outcome) {
    case 'refused':
      return `The tool gave no result. ${answer.reason}`;
    case 'unanswered':
      return `The tool did not answer (${answer.reason}).`;
    case 'answered': {
      const status = `HTTP ${answer.status}`;
      if (!answer.text) return status;
      return succeeded(answer.status) ? answer.text : `${status}: ${answer.text}`;
    }
  }
}

/** Whether another request may be answered otherwise. */
export const isWorthAnother = (answer: TextAnswer): boolean =>
  answer.outcome === 'unanswered' || (answer.outcome === 'answered' && (answer.status === 429 || answer.status >= 500));

const succeeded = (status: number): boolean => status >= 200 && status <= 299;
