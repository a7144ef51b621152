import { execFile, spawn } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { ConfigError } from '../config/yaml-source.ts';

/** Newer tags of Temporal's CLI cannot be installed with `go install` because of a `replace` in their go.mod. */
const CLI_VERSION = '1.5.1';

export interface TemporalBinaryOptions {
  /** `TEMPORAL_CLI_PATH`. */
  readonly configured: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** Told what is being done, one line at a time. */
  readonly onProgress: (line: string) => void;
}

/**
 * The `temporal` executable: the configured one, one on PATH, the cached one, the SDK's download, or one built with Go.
 * The last takes a few minutes, once per machine. Throws `ConfigError` when none can be had.
 */
export async function findTemporalBinary({ configured, env, onProgress }: TemporalBinaryOptions): Promise<string> {
  if (configured) {
    if (isExecutable(configured)) return configured;
    throw new ConfigError(`TEMPORAL_CLI_PATH: '${configured}' is not an executable file.`);
  }
  const onPath = (env.PATH ?? '')
    .split(delimiter)
    .map((dir) => join(dir, 'temporal'))
    .find(isExecutable);
  if (onPath) return onPath;

  const cache = cacheDir(env);
  const cached = join(cache, `temporal-${CLI_VERSION}`);
  if (isExecutable(cached)) return cached;

  mkdirSync(cache, { recursive: true });
  const obtained = (await download(cache, onProgress)) ?? (await build(cache, env, onProgress));
  if (!obtained) {
    throw new ConfigError(
      'Temporal’s CLI is not here and could be neither downloaded nor built. Install it (or Go, to have it built), ' +
        'name it in TEMPORAL_CLI_PATH, or point TEMPORAL_ADDRESS at a running server.',
    );
  }
  chmodSync(obtained, 0o755);
  renameSync(obtained, cached);
  return cached;
}

const cacheDir = (env: NodeJS.ProcessEnv): string =>
  join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'holdfast', 'bin');

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The SDK's test environment downloads the CLI; starting and stopping one leaves the file behind. */
async function download(cache: string, onProgress: (line: string) => void): Promise<string | undefined> {
  onProgress('Downloading Temporal’s dev server (once per machine)…');
  const dir = mkdtempSync(join(cache, 'download-'));
  try {
    const { TestWorkflowEnvironment } = await import('@temporalio/testing');
    const executable = { type: 'cached-download', downloadDir: dir, version: `v${CLI_VERSION}` } as const;
    const environment = await TestWorkflowEnvironment.createLocal({ server: { executable } });
    await environment.teardown();
    const file = readdirSync(dir).find((name) => name.startsWith('temporal'));
    if (!file) return undefined;
    const kept = join(cache, `downloaded-${process.pid}`);
    renameSync(join(dir, file), kept);
    return kept;
  } catch (error) {
    onProgress(`It cannot be downloaded here (${firstLine(error)}).`);
    return undefined;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function build(
  cache: string,
  env: NodeJS.ProcessEnv,
  onProgress: (line: string) => void,
): Promise<string | undefined> {
  const version = await promisify(execFile)('go', ['version']).catch(() => undefined);
  if (!version) {
    onProgress('Go is not installed, so it cannot be built either.');
    return undefined;
  }
  onProgress('Building Temporal’s dev server with Go (once per machine, two to four minutes)…');
  const bin = mkdtempSync(join(cache, 'build-'));
  const started = Date.now();
  const ticker = setInterval(
    () => onProgress(`… still building (${Math.round((Date.now() - started) / 1000)} s)`),
    20_000,
  );
  try {
    await run('go', ['install', `github.com/temporalio/cli/cmd/temporal@v${CLI_VERSION}`], { ...env, GOBIN: bin });
    const built = join(cache, `built-${process.pid}`);
    renameSync(join(bin, 'temporal'), built);
    return existsSync(built) ? built : undefined;
  } catch (error) {
    onProgress(`It could not be built (${firstLine(error)}).`);
    return undefined;
  } finally {
    clearInterval(ticker);
    rmSync(bin, { recursive: true, force: true });
  }
}

/** Runs a command to its end; its last line of output explains a failure. */
function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    let last = '';
    child.stderr.on('data', (chunk: Buffer) => {
      last = chunk.toString().trim().split('\n').at(-1) || last;
    });
    child.once('error', reject);
    child.once('close', (code) => (code === 0 ? resolve() : reject(new Error(last || `exit ${code}`))));
  });
}

const MAX_REASON_LENGTH = 120;

const firstLine = (error: unknown): string =>
  ((error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '').slice(0, MAX_REASON_LENGTH);
