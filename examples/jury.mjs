// Side by side: three judges get the same case; as soon as two have a verdict the third is cancelled, and a foreman speaks.
//
//   node examples/jury.mjs "Should the harbour stay open in a storm?"
import { register, run } from './holdfast.mjs';

const question = process.argv[2] ?? 'Should the harbour stay open in a storm?';
const judges = ['strict', 'lenient', 'practical'];

await register([
  ...judges.map((kind) => ({
    name: `${kind}-judge`,
    instructions: `You are a ${kind} judge.`,
    output_schema: {
      type: 'object',
      properties: { verdict: { enum: ['yes', 'no'] }, reason: { type: 'string' } },
      required: ['verdict', 'reason'],
    },
  })),
  { name: 'foreman', instructions: 'You speak for a jury: you say what it decided, and why.' },
]);

await run(
  {
    pattern: 'parallel',
    name: 'jury',
    branches: judges.map((kind) => ({ pattern: 'single', name: kind, agent: `${kind}-judge` })),
    join: { quorum: 2 },
    // {{previous}} is a JSON object of the verdicts that count, by the names of their branches.
    merge: { pattern: 'single', name: 'verdict', agent: 'foreman', input: '{{input}} The judges: {{previous}}' },
  },
  question,
);
