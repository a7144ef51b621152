// An agent whose tools are other agents: it hands out tasks, as many at once as it likes, and answers with what they said.
//
//   node examples/supervisor.mjs "Plan a weekend in Lisbon: find flights and hotels."
import { register, run } from './holdfast.mjs';

const task = process.argv[2] ?? 'Plan a weekend in Lisbon: find flights and hotels.';

const offer = (what) => ({
  type: 'object',
  properties: { [what]: { type: 'string' }, price_usd: { type: 'number', minimum: 100 } },
  required: [what, 'price_usd'],
});

await register([
  { name: 'travel-agent', instructions: 'You plan journeys. Ask the other agents for what you need to know.' },
  // The coordinator is told these descriptions.
  {
    name: 'flights',
    description: 'Finds flights.',
    instructions: 'You find flights.',
    output_schema: offer('airline'),
  },
  { name: 'hotels', description: 'Finds hotels.', instructions: 'You find hotels.', output_schema: offer('hotel') },
]);

await run(
  { pattern: 'supervisor', name: 'plan', coordinator: 'travel-agent', workers: ['flights', 'hotels'], max_rounds: 5 },
  task,
);
