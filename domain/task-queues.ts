/** Where runs in the background wait for their turn, by priority and fairly between tenants. */
export const backgroundQueue = (taskQueue: string): string => `${taskQueue}-background`;
