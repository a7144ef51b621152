/** As OpenAI's API gives times. */
export const toSeconds = (date: Date): number => Math.floor(date.getTime() / 1000);
