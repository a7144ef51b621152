import type { Received, Reply } from './fixture-server.ts';
import type { Json, TestGateway } from './gateway.ts';
import { eventually } from './gateway.ts';
import { openaiCompletion } from './shapes.ts';

/** What registers prompt agents and starts workflows of them, as a caller does. */
export class Agency {
  private readonly gateway: Pick<TestGateway, 'json'>;
  readonly key: string | undefined;

  constructor(gateway: Pick<TestGateway, 'json'>, key?: string) {
    this.gateway = gateway;
    this.key = key;
  }

  async agent(name: string, rest: object = {}): Promise<Json> {
    const body = { kind: 'prompt', model: 'gpt-5-mini', instructions: `You are ${name}.`, name, ...rest };
    return this.post('/agents/register', body);
  }

  async agents(...names: readonly string[]): Promise<void> {
    for (const name of names) await this.agent(name);
  }

  start(workflow: object, rest: object = {}): Promise<Json> {
    return this.post('/workflows/start', { workflow, input: 'the input', ...rest });
  }

  get(id: string): Promise<Json> {
    return this.gateway.json(`/workflows/${id}`, this.as);
  }

  /** Waits until it is in one of these states. */
  until(id: string, ...states: readonly string[]): Promise<Json> {
    return eventually(async () => {
      const workflow = await this.get(id);
      return states.includes(workflow.status) && workflow;
    }, 30_000);
  }

  ended(id: string): Promise<Json> {
    return this.until(id, 'completed', 'failed', 'cancelled');
  }

  async run(workflow: object, rest: object = {}): Promise<Json> {
    const { id } = await this.start(workflow, rest);
    return this.ended(id);
  }

  async pending(id: string): Promise<Json> {
    return eventually(async () => (await this.gateway.json(`/approvals/pending?workflow_id=${id}`)).data[0]);
  }

  post(path: string, json: object = {}): Promise<Json> {
    return this.gateway.json(path, { ...this.as, json });
  }

  private get as() {
    return this.key === undefined ? {} : { key: this.key };
  }
}

/** Who is asked: agents begin their instructions with their name. */
export const askedAs = ({ body }: Received): string =>
  /^You are ([\w-]+)\./.exec(body.messages?.[0]?.content ?? '')?.[1] ?? '';

/** The last thing that was said to the model. */
export const lastMessage = ({ body }: Received): string => body.messages?.at(-1)?.content ?? '';

/** Each agent answers with its name and what it was given. */
export const echo = (request: Received): Reply => ({
  body: openaiCompletion(`${askedAs(request)}(${lastMessage(request)})`),
});
