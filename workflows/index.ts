/** The entry of the workflow bundle: every export is a workflow type. */
export { budgetAlert } from './budget-alert.ts';
export { completion } from './completion.ts';
export { sweep } from './sweep.ts';
