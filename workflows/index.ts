/** The entry of the workflow bundle: every export is a workflow type. */
export { completion } from './completion.ts';
export { costReport } from './cost-report.ts';
