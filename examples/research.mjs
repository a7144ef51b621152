// One agent after the other: plan, search, write.
//
//   node examples/research.mjs "How do lighthouses work?"
//   SEARCH_URL='https://en.wikipedia.org/w/api.php?action=query&list=search&format=json&srsearch={query}' node …
import { register, run } from './holdfast.mjs';

const question = process.argv[2] ?? 'How do lighthouses work?';

// The searcher gets a tool if there is something to search; the gateway makes the calls that the model asks for.
const search = {
  type: 'http',
  name: 'search',
  method: 'GET',
  url: process.env.SEARCH_URL,
  parameters: { type: 'object', properties: { query: { type: 'string' } }, required: ['query'] },
};

await register([
  {
    name: 'planner',
    instructions: 'You plan research: you name the questions that have to be answered.',
    // Its answer has to follow this; if it does not, the model is told why and asked again.
    output_schema: {
      type: 'object',
      properties: { questions: { type: 'array', items: { type: 'string' } } },
      required: ['questions'],
    },
  },
  {
    name: 'searcher',
    instructions: 'You answer questions, in one sentence each.',
    tools: process.env.SEARCH_URL ? [search] : [],
  },
  { name: 'writer', instructions: 'You write a paragraph that everybody understands.' },
]);

await run(
  {
    pattern: 'sequential',
    steps: [
      { pattern: 'single', name: 'plan', agent: 'planner' },
      { pattern: 'single', name: 'search', agent: 'searcher', input: 'Search for answers to: {{steps.plan}}' },
      { pattern: 'single', name: 'write', agent: 'writer', input: '{{input}} Notes: {{previous}}' },
    ],
  },
  question,
);
