#!/usr/bin/env node
import { Command } from 'commander';
import { ConfigError } from '../config/yaml-source.ts';
import { HoldfastError } from '../domain/errors.ts';
import type { KeyOptions } from './keys.ts';
import type { RerunOptions } from './rerun.ts';
import { readVersion } from './version.ts';

const program = new Command('holdfast')
  .description('A durable AI gateway. Settings come from the environment, .env and gateway.yaml.')
  .version(readVersion());

// Each command loads what it needs: most of them need neither Temporal nor a provider's SDK.
program
  .command('start')
  .description('run everything in one process; supply what is not configured')
  .action(async () => (await import('./start.ts')).start());
program
  .command('api')
  .description('run a front door beside other processes')
  .action(async () => (await import('./serve.ts')).serveApi());
program
  .command('worker')
  .description('run a worker beside other processes')
  .action(async () => (await import('./serve.ts')).serveWorker());
program
  .command('migrate')
  .description('bring the schema of DATABASE_URL up to date')
  .action(async () => (await import('./migrate.ts')).migrateDatabase());
program
  .command('replay')
  .description('hold the history of a run against this code: an upgrade it does not replay with would break it')
  .argument('<run>')
  .action(async (run: string) => (await import('./replay.ts')).replay(run));
program
  .command('rerun')
  .description('run a pipeline’s run again from one of its steps; finished steps before it are not paid again')
  .argument('<run>')
  .requiredOption('--from <step>', 'the first step to run again')
  .option('--url <url>', 'address of the gateway')
  .action(async (run: string, options: RerunOptions) => (await import('./rerun.ts')).rerun(run, options));

const keys = program.command('keys').description('virtual keys of a running gateway; the encryption key');
keys
  .command('rotate-encryption')
  .description('re-wrap the data keys of DATABASE_URL with GATEWAY_ENCRYPTION_KEY, and make a new one')
  .action(async () => (await import('./rotate-encryption.ts')).rotateEncryption());
keys
  .command('create')
  .description('make a virtual key and print it')
  .requiredOption('--name <name>', 'what the key is for')
  .option('--team <team>')
  .option('--project <project>')
  .option('--user <user>')
  .option('--rpm <number>', 'requests per minute')
  .option('--tpm <number>', 'tokens per minute')
  .option('--cost-cap <dollars>', 'most it may cost per calendar month')
  .option('--default-model <model>', 'for requests that name none')
  .option('--models <names>', 'models it may use, separated by commas')
  .option('--roles <roles>', 'admin, operator, approver, developer, viewer, separated by commas', 'developer')
  .option('--expires <date>', 'ISO date')
  .option('--url <url>', 'address of the gateway')
  .action(async (options: KeyOptions) => (await import('./keys.ts')).createKey(options));

try {
  await program.parseAsync();
} catch (error) {
  // A mistake in the settings or a part that is down needs no stack trace; anything else does.
  const explained = error instanceof ConfigError || error instanceof HoldfastError;
  process.stderr.write(`${explained ? error.message : ((error as Error).stack ?? error)}\n`);
  process.exit(1);
}
