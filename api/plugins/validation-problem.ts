import type { FastifySchemaValidationError } from 'fastify/types/schema.js';
import { type Issue, type Problem, toProblem } from '../../domain/validation.ts';

/** What a validator found, as a caller is told. */
export const problemOf = ({ instancePath, message = '', params }: FastifySchemaValidationError): Problem =>
  toProblem({ path: instancePath.split('/').filter(Boolean), message, ...(params as Partial<Issue>) });
