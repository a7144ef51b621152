// The same five steps with LangGraph and its Postgres checkpointer: a node for each, a thread for each run, which a crash
// leaves where it was. POST /{sync|async} with `{ "input": "…" }` runs it in that durability mode. Prints its port.
// usage: node langgraph.mjs <postgres url> <upstream's base url>

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { Annotation, END, START, StateGraph } from '@langchain/langgraph';
import { PostgresSaver } from '@langchain/langgraph-checkpoint-postgres';
import OpenAI from 'openai';
import pg from 'pg';

const [databaseUrl, baseURL] = process.argv.slice(2);
/** As many as Holdfast has by default. */
const CONNECTIONS = 20;
const STEPS = ['one', 'two', 'three', 'four', 'five'];

const openai = new OpenAI({ baseURL, apiKey: 'x', maxRetries: 0 });
const checkpointer = new PostgresSaver(new pg.Pool({ connectionString: databaseUrl, max: CONNECTIONS }));
await checkpointer.setup();

const State = Annotation.Root({
  input: Annotation(),
  outputs: Annotation({ reducer: (before, added) => [...before, ...added], default: () => [] }),
});

const step =
  (name) =>
  async ({ input, outputs }) => {
    const { choices } = await openai.chat.completions.create({
      model: 'gpt-5-mini',
      messages: [
        { role: 'system', content: `You are step ${name} of five.` },
        { role: 'user', content: outputs.at(-1) ?? input },
      ],
    });
    return { outputs: [choices[0].message.content] };
  };

const graph = new StateGraph(State);
for (const name of STEPS) graph.addNode(name, step(name), { retryPolicy: { maxAttempts: 3 } });
for (const [i, name] of STEPS.entries()) graph.addEdge(STEPS[i - 1] ?? START, name);
graph.addEdge('five', END);
const pipeline = graph.compile({ checkpointer });

const read = async (request) => {
  let text = '';
  for await (const part of request) text += part;
  return JSON.parse(text);
};

const server = createServer(async (request, response) => {
  try {
    const { input } = await read(request);
    const config = { configurable: { thread_id: randomUUID() }, durability: request.url.slice(1) };
    const { outputs } = await pipeline.invoke({ input }, config);
    response.end(JSON.stringify({ outputs }));
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
});
server.keepAliveTimeout = 120_000;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
