import { setTimeout as sleep } from 'node:timers/promises';
import { isGrpcServiceError } from '@temporalio/client';
import type { WorkerDeploymentVersion } from '@temporalio/common';
import { optionalTsToMs } from '@temporalio/common/lib/time.js';
import proto from '@temporalio/proto';
import type { Logger } from 'pino';
import type { OpenConnection } from './connection.ts';
import { IDENTITY } from './worker.ts';

/** Milliseconds within which a version becomes current. Measured on server 1.29.1: 1 s the first, 5 s the next. */
const PATIENCE_MS = 30_000;
const LOOK_MS = 200;

/**
 * gRPC codes while a version is not known with all its queues, the server is busy, or somebody changed the deployment
 * meanwhile: DEADLINE_EXCEEDED, NOT_FOUND, RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNAVAILABLE.
 */
const NOT_YET_CODES: ReadonlySet<number> = new Set([4, 5, 8, 9, 14]);

const { WORKER_DEPLOYMENT_VERSION_STATUS_INACTIVE: NEVER_CURRENT } =
  proto.temporal.api.enums.v1.WorkerDeploymentVersionStatus;

/**
 * Lets new runs begin on the version of workers that run, if it is newer than the current one and never was current
 * itself: a worker that is started again takes nothing back from a newer version, nor from one that operators went back
 * to. A deployment that has a manager is left to it.
 */
export async function makeCurrent(
  temporal: OpenConnection,
  version: WorkerDeploymentVersion,
  logger: Logger,
): Promise<void> {
  const giveUpAt = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      const current = await currentAfter(temporal, version);
      logger.info(
        `These are workers of version ${version.buildId}; new runs begin on ${current ?? 'workers without versions'}`,
      );
      return;
    } catch (error) {
      const notYet = isGrpcServiceError(error) && NOT_YET_CODES.has(error.code);
      if (!notYet || Date.now() > giveUpAt) {
        logger.warn({ err: error }, `New runs do not begin on version ${version.buildId} until it is made current`);
        return;
      }
    }
    await sleep(LOOK_MS);
  }
}

/** The build that is current afterwards. Rejects while the server does not know enough of the version. */
async function currentAfter(
  { connection: { workflowService }, namespace }: OpenConnection,
  { deploymentName, buildId }: WorkerDeploymentVersion,
): Promise<string | undefined> {
  const deployment = { namespace, deploymentName };
  const { conflictToken, workerDeploymentInfo } = await workflowService.describeWorkerDeployment(deployment);
  const { versionSummaries, routingConfig, managerIdentity } = workerDeploymentInfo ?? {};
  const summaryOf = (build: string | undefined) =>
    versionSummaries?.find(({ deploymentVersion }) => deploymentVersion?.buildId === build);
  const current = routingConfig?.currentDeploymentVersion?.buildId || undefined;
  const own = summaryOf(buildId);
  // One that is not known yet will be the newest.
  const takesOver = !own || (own.status === NEVER_CURRENT && createdAt(own) > createdAt(summaryOf(current)));
  if (managerIdentity || !takesOver) return current;
  const change = { ...deployment, buildId, conflictToken, identity: IDENTITY };
  await workflowService.setWorkerDeploymentCurrentVersion(change);
  return buildId;
}

/** Milliseconds since the epoch. */
const createdAt = (version: VersionSummary | undefined): number => optionalTsToMs(version?.createTime) ?? 0;

type VersionSummary = proto.temporal.api.deployment.v1.WorkerDeploymentInfo.IWorkerDeploymentVersionSummary;
