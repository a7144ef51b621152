import { randomUUID } from 'node:crypto';
import Fastify, { type FastifyInstance, LogController } from 'fastify';
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import { createAuthenticator } from './auth/authenticator.ts';
import type { ApiDeps } from './context.ts';
import { audit } from './plugins/audit.ts';
import { auth } from './plugins/auth.ts';
import { errors } from './plugins/errors.ts';
import { metrics as measuring } from './plugins/metrics.ts';
import { openapi } from './plugins/openapi.ts';
import { rateLimitHeaders } from './plugins/rate-limit-headers.ts';
import { agents } from './routes/agents.ts';
import { approvals } from './routes/approvals.ts';
import { auditLog } from './routes/audit-log.ts';
import { authentication } from './routes/auth.ts';
import { batches } from './routes/batches.ts';
import { budgets } from './routes/budgets.ts';
import { chatCompletions } from './routes/chat-completions.ts';
import { costs } from './routes/costs.ts';
import { estimate } from './routes/estimate.ts';
import { executions } from './routes/executions.ts';
import { files } from './routes/files.ts';
import { generate } from './routes/generate.ts';
import { health } from './routes/health.ts';
import { invoke } from './routes/invoke.ts';
import { jobs } from './routes/jobs.ts';
import { logs } from './routes/logs.ts';
import { messages } from './routes/messages.ts';
import { metrics } from './routes/metrics.ts';
import { modelCatalogue } from './routes/model-catalogue.ts';
import { models } from './routes/models.ts';
import { providerKeys } from './routes/provider-keys.ts';
import { providers } from './routes/providers.ts';
import { rateLimits } from './routes/rate-limits.ts';
import { reports } from './routes/reports.ts';
import { responses } from './routes/responses.ts';
import { root } from './routes/root.ts';
import { routingPolicies } from './routes/routing-policies.ts';
import { settings } from './routes/settings.ts';
import { tenants } from './routes/tenants.ts';
import { usage } from './routes/usage.ts';
import { virtualKeys } from './routes/virtual-keys.ts';
import { webhooks } from './routes/webhooks.ts';
import { workflows } from './routes/workflows.ts';

/** The front door. Listens to nothing: the composition root does. */
export async function buildApp(deps: ApiDeps): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: deps.logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => randomUUID(),
    bodyLimit: deps.config.gateway.server.body_limit_mb * 1024 * 1024,
    // Large prompts are uploaded slowly; answers are bounded by the request's deadline.
    requestTimeout: 0,
    forceCloseConnections: 'idle',
    routerOptions: { ignoreTrailingSlash: true },
    // Without it Fastify listens to plain HTTP.
    https: deps.tls ?? null,
  }).withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  app.removeContentTypeParser('text/plain');

  await app.register(errors);
  const authenticator = createAuthenticator({ ...deps, config: deps.config.gateway.auth });
  // Before `auth`, which refuses routes that do not say who may call them: the pages of another's plugin cannot.
  await app.register(openapi, { version: deps.version });
  // Before `auth` as well: callers who are refused are counted.
  await app.register(measuring);
  await app.register(auth, { authenticator });
  await app.register(audit, { auditLog: deps.auditLog });
  await app.register(rateLimitHeaders, { counters: deps.counters });

  await app.register(authentication, { authenticator });
  const serving = [root, health, providers, models, chatCompletions, responses, generate, invoke];
  const inBackground = [jobs, batches, files, webhooks];
  const orchestrating = [agents, workflows, executions, approvals, messages];
  const telling = [estimate, logs, usage, costs];
  const operating = [modelCatalogue, routingPolicies, settings, reports, metrics, auditLog];
  const administering = [virtualKeys, providerKeys, tenants, budgets, rateLimits];
  for (const routes of [...serving, ...inBackground, ...orchestrating, ...telling, ...operating, ...administering])
    await app.register(routes, deps);
  return app as unknown as FastifyInstance;
}
