import { availablePort } from '../embedded/ports.ts';
import { installRuntime } from '../workers/runtime.ts';
import { createGateway } from './gateway.ts';
import { runUntilStopped } from './lifecycle.ts';
import { loadEnvironment, sharedOptions } from './options.ts';

/** `holdfast api`: a front door beside other processes. */
export async function serveApi(): Promise<never> {
  const environment = loadEnvironment();
  const { settings, logger } = environment;
  installRuntime(logger);
  const port = await availablePort(settings.host, settings.port, 'GATEWAY_PORT');
  const gateway = await createGateway(sharedOptions(environment, { api: true, worker: false }));
  try {
    await gateway.app?.listen({ host: settings.host, port });
  } catch (error) {
    await gateway.stop();
    throw error;
  }
  logger.info(`The front door listens on ${settings.host}:${port}`);
  return runUntilStopped(gateway, logger);
}

/** `holdfast worker`: runs workflows and provider calls. */
export async function serveWorker(): Promise<never> {
  const environment = loadEnvironment();
  installRuntime(environment.logger);
  const gateway = await createGateway(sharedOptions(environment, { api: false, worker: true }));
  environment.logger.info(`The worker polls task queue '${environment.settings.temporalTaskQueue}'`);
  return runUntilStopped(gateway, environment.logger);
}
