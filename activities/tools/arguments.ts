import type { HttpTool } from '../../domain/tool.ts';
import { valueProblem } from '../json-schema.ts';

/** What is wrong with the arguments of a call, in words for the model that made it; undefined if nothing is. */
export const argumentProblem = ({ parameters }: HttpTool, args: unknown): string | undefined =>
  valueProblem(parameters, args, 'arguments');
