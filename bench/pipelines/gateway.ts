import type { Endpoint } from '../overhead/load.ts';
import { send } from './http.ts';

/** Holdfast as callers of its pipelines use it. */
export class Gateway {
  private readonly port: number;
  private readonly headers: Readonly<Record<string, string>>;

  constructor({ port, headers: { authorization = '' } }: Endpoint) {
    this.port = port;
    this.headers = { authorization };
  }

  async register(agent: object): Promise<void> {
    await this.call('/agents/register', { kind: 'prompt', model: 'instant/gpt-5-mini', ...agent });
  }

  /** Starts a pipeline, agrees to whatever it asks for, and waits until it has completed. Returns its id. */
  async run(workflow: object, input: string): Promise<string> {
    const { id } = JSON.parse(await this.call('/workflows/start', { workflow, input })) as { id: string };
    const votes: Promise<string>[] = [];
    let last: unknown;
    await this.follow(id, (event, data) => {
      if (event === 'state') last = data.state;
      if (event !== 'approval' || data.status !== 'pending') return;
      votes.push(this.call('/approvals', { approval_id: data.id, decision: 'approve' }));
    });
    await Promise.all(votes);
    if (last !== 'completed') throw new Error(`${id} is ${last}.`);
    return id;
  }

  /** Tells the run's events until its last one. */
  private async follow(id: string, tell: (event: string, data: Readonly<Record<string, unknown>>) => void) {
    let rest = '';
    const onText = (text: string) => {
      const events = (rest + text).split('\n\n');
      rest = events.pop() ?? '';
      for (const one of events) {
        const [, event, data] = /^event: (.*)\ndata: (.*)$/m.exec(one) ?? [];
        if (event && data) tell(event, JSON.parse(data));
      }
    };
    await send({ port: this.port, path: `/workflows/${id}/events`, headers: this.headers, onText });
  }

  private call(path: string, json: object): Promise<string> {
    return send({ port: this.port, path, headers: this.headers, json });
  }
}
