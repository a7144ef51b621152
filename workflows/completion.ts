import { upsertSearchAttributes } from '@temporalio/workflow';
import type { ModelCall, ModelCallResult } from '../domain/model-call.ts';
import { modelCall } from './model-call.ts';
import { SEARCH_ATTRIBUTES } from './search-attributes.ts';

export interface CompletionInput {
  readonly call: ModelCall;
  /** Whether the namespace knows the gateway's search attributes. */
  readonly searchable: boolean;
}

/** One chat completion, from its acceptance to its last booked nano-dollar. */
export async function completion(input: CompletionInput): Promise<ModelCallResult> {
  const result = await modelCall(input.call);
  noteFallback(input, result);
  return result;
}

/** Operators find a run by who answered it. */
export function noteFallback({ call, searchable }: CompletionInput, { provider, model }: ModelCallResult): void {
  if (!searchable || provider === call.targets[0]?.provider) return;
  upsertSearchAttributes([
    { key: SEARCH_ATTRIBUTES.provider, value: provider },
    { key: SEARCH_ATTRIBUTES.model, value: model },
  ]);
}
