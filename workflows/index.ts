/** The entry of the workflow bundle: every export is a workflow type. */
export { batch } from './batch.ts';
export { budgetAlert } from './budget-alert.ts';
export { completion } from './completion.ts';
export { costReport } from './cost-report.ts';
export { gatheredBatch, gathering } from './gathering.ts';
export { job } from './job.ts';
export {
  pipeline as humanInLoop,
  pipeline as parallel,
  pipeline as sequential,
  pipeline as single,
  pipeline as supervisor,
} from './pipeline.ts';
export { sweep } from './sweep.ts';
export { webhook } from './webhook.ts';
