/** Where runs in the background wait for their turn, by priority and fairly between tenants. */
export const backgroundQueue = (taskQueue: string): string => `${taskQueue}${BACKGROUND}`;

/** Where what takes milliseconds does not wait behind the calls of the background. */
export const interactiveQueue = (queue: string): string =>
  queue.endsWith(BACKGROUND) ? queue.slice(0, -BACKGROUND.length) : queue;

const BACKGROUND = '-background';
