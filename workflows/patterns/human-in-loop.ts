import { HoldfastError } from '../../domain/errors.ts';
import type { HumanStep } from '../../domain/pipeline.ts';
import type { PipelineRun } from '../pipeline/pipeline-run.ts';
import { finish, recorded } from '../pipeline/recorded.ts';

/** People have to agree to what was proposed, and may change it. What they agreed to is the output. */
export const humanInLoop = (run: PipelineRun, { name, pattern, approval }: HumanStep, input: string): Promise<string> =>
  recorded(run, { step: name, pattern, input: { ref: input } }, async ({ inputRef }) => {
    const subject = { kind: 'step', inputRef } as const;
    run.note(name, `waits for ${approval.approvers.roles.join(' or ')}`);
    const answer = await run.approvals.ask({ step: name, key: name, terms: approval, subject });
    if (!answer.approved) {
      const message = answer.expired ? 'Nobody approved it in time.' : 'It was not approved.';
      throw new HoldfastError('policy_approval_rejected', message);
    }
    await finish(run, name, { outputRef: answer.payloadRef });
    return answer.payloadRef;
  });
