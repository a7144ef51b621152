import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import type { ApiDeps } from '../context.ts';

/** One surface of the API. */
export type Routes = FastifyPluginAsyncZod<ApiDeps>;
