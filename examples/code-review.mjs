// A person in the loop: an agent improves some code, somebody sees the difference and agrees, and only then it is applied.
//
//   node examples/code-review.mjs          approves by itself
//   node examples/code-review.mjs --wait   leaves that to you; the workflow waits for an hour, also while the gateway is down
import { call, register, run, url } from './holdfast.mjs';

const wait = process.argv.includes('--wait');

const code = `function total(items) {
  var sum = 0;
  for (var i = 0; i <= items.length; i++) sum += items[i].price;
  return sum;
}`;

await register([
  { name: 'reviewer', instructions: 'You find and fix mistakes in code. Answer with the whole code and nothing else.' },
  { name: 'committer', instructions: 'You write the commit message for a change.' },
]);

await run(
  {
    pattern: 'sequential',
    steps: [
      { pattern: 'single', name: 'review', agent: 'reviewer' },
      {
        pattern: 'human_in_loop',
        name: 'approve',
        title: 'Apply the reviewed code?',
        payload: '{{steps.review}}',
        compare_with: '{{input}}',
        approval: { timeout: 3_600, on_timeout: 'reject' },
      },
      // It gets what was approved, which the approver may have changed.
      { pattern: 'single', name: 'apply', agent: 'committer', input: 'Before:\n{{input}}\nAfter:\n{{previous}}' },
    ],
  },
  code,
  async (id) => {
    const { title, diff } = await call(`/approvals/${id}`);
    console.log(`\n${title}\n\n${diff}`);
    const decision = { approval_id: id, decision: 'approve', comment: 'Looks good.' };
    if (!wait) return call('/approvals', decision);
    const headers = `-H "authorization: Bearer $GATEWAY_MASTER_KEY" -H 'content-type: application/json'`;
    console.log(`Decide in another terminal:\n\n  curl ${url}/approvals ${headers} -d '${JSON.stringify(decision)}'\n`);
  },
);
