import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import fp from 'fastify-plugin';
import { jsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod';

const DOCS = '/docs';

/** The API's description at /openapi.json, made from the routes' schemas, and its pages at /docs. */
export const openapi = fp<{ readonly version: string }>(
  async (app, { version }) => {
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: { title: 'Holdfast', description: 'A durable AI gateway.', version },
        components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } },
        security: [{ bearer: [] }],
      },
      transform: jsonSchemaTransform,
      transformObject: jsonSchemaTransformObject,
    });
    app.addHook('onRoute', (route) => {
      if (route.url.startsWith(DOCS)) route.config = { ...route.config, access: 'public' };
      // Shown without a lock.
      if (route.config?.access === 'public') route.schema = { ...route.schema, security: [] };
    });
    await app.register(swaggerUi, { routePrefix: DOCS, staticCSP: true });
    app.get('/openapi.json', { config: { access: 'public' }, schema: { hide: true } }, () => app.swagger());
  },
  { name: 'openapi' },
);
