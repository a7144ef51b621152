import type { ChildProcess } from 'node:child_process';
import { endProcess, identify } from './process-identity.ts';

export interface EmbeddedServer {
  /** Where clients find it. */
  readonly address: string;
  /** Called when it ends without having been stopped. */
  onExit(listener: (reason: string) => void): void;
  stop(): Promise<void>;
}

/** A child process with an orderly end. */
export function superviseChild(
  child: ChildProcess,
  options: { readonly name: string; readonly address: string; readonly cleanUp?: () => void },
): EmbeddedServer {
  let stopping = false;
  const identity = child.pid === undefined ? undefined : identify(child.pid);
  return {
    address: options.address,
    onExit(listener) {
      child.once('exit', (code, signal) => {
        if (!stopping) listener(`${options.name} ended unexpectedly (${signal ?? `exit ${code}`})`);
      });
    },
    async stop() {
      stopping = true;
      if (identity) await endProcess(identity);
      options.cleanUp?.();
    },
  };
}
