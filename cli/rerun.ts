import { loadEnvironment } from './options.ts';
import { postToGateway } from './running-gateway.ts';

export interface RerunOptions {
  readonly from: string;
  readonly url?: string;
}

/** `holdfast rerun`: runs a pipeline's run again from one of its steps, and prints the new run. */
export async function rerun(run: string, { from, url }: RerunOptions): Promise<void> {
  const path = `/workflows/${encodeURIComponent(run)}/retry`;
  const { id } = await postToGateway<{ readonly id: string }>(loadEnvironment(), url, path, { from });
  process.stdout.write(`${id}\n`);
}
