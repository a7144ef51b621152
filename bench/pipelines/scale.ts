/** How much is measured. */
export interface Scale {
  readonly rounds: number;
  readonly warmUpSeconds: number;
  readonly seconds: number;
  readonly connections: readonly number[];
  /** Turns in all of each line of the table of turns. */
  readonly turns: number;
}

const FULL = { warmUpSeconds: 8, seconds: 5, connections: [1, 10, 50], turns: 50 };

/** @param wanted A number of rounds, or `quick` to see that everything works. */
export const scaleOf = (wanted: string): Scale =>
  wanted === 'quick'
    ? { rounds: 1, warmUpSeconds: 1, seconds: 1, connections: [1, 10], turns: 10 }
    : { ...FULL, rounds: Number(wanted) };
