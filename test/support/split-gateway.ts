import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../embedded/ports.ts';
import { ENCRYPTION_KEY } from './databases.ts';
import { type Json, MASTER_KEY } from './gateway.ts';
import { inject } from './inject.ts';
import { HoldfastProcess } from './process.ts';

/** Whether there is what separate processes share. */
export const canSplit = inject('postgres') !== null && inject('redis') !== null;

/** A front door and workers as processes of their own, on real parts. */
export class SplitGateway {
  url = '';
  private port: number | undefined;
  private readonly dir = mkdtempSync(join(tmpdir(), 'holdfast-split-'));
  private readonly processes: HoldfastProcess[] = [];
  private readonly env: Record<string, string>;

  constructor(yaml: string) {
    writeFileSync(join(this.dir, 'gateway.yaml'), yaml);
    this.env = {
      GATEWAY_CONFIG: 'gateway.yaml',
      GATEWAY_MASTER_KEY: MASTER_KEY,
      GATEWAY_ENCRYPTION_KEY: ENCRYPTION_KEY,
      DATABASE_URL: inject('postgres') ?? '',
      REDIS_URL: inject('redis') ?? '',
      TEMPORAL_ADDRESS: inject('temporal'),
      TEMPORAL_TASK_QUEUE: `split-${crypto.randomUUID()}`,
    };
  }

  async migrate(): Promise<this> {
    await this.run(['migrate']).ended;
    return this;
  }

  /** Always at the same address. */
  async startApi(): Promise<HoldfastProcess> {
    this.port ??= await freePort();
    this.url = `http://127.0.0.1:${this.port}`;
    const api = this.run(['api'], { GATEWAY_PORT: String(this.port) });
    await api.says(/The front door listens/);
    return api;
  }

  async startWorker(): Promise<HoldfastProcess> {
    const worker = this.run(['worker']);
    await worker.says(/The worker polls/);
    return worker;
  }

  async json(path: string, { key = MASTER_KEY, json }: { key?: string; json?: unknown } = {}): Promise<Json> {
    const response = await fetch(this.url + path, {
      ...(json !== undefined && { method: 'POST', body: JSON.stringify(json) }),
      headers: {
        authorization: `Bearer ${key}`,
        ...(json !== undefined && { 'content-type': 'application/json' }),
      },
    });
    return response.json();
  }

  async stop(): Promise<void> {
    for (const started of this.processes) await started.kill('SIGKILL');
    rmSync(this.dir, { recursive: true, force: true });
  }

  private run(args: readonly string[], extra: Record<string, string> = {}): HoldfastProcess {
    const started = new HoldfastProcess(args, { ...this.env, ...extra }, this.dir);
    this.processes.push(started);
    return started;
  }
}
