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
export async function completion({ call, searchable }: CompletionInput): Promise<ModelCallResult> {
  const result = await modelCall(call);
  if (searchable && result.provider !== call.targets[0]?.provider) {
    upsertSearchAttributes([
      { key: SEARCH_ATTRIBUTES.provider, value: result.provider },
      { key: SEARCH_ATTRIBUTES.model, value: result.model },
    ]);
  }
  return result;
}
