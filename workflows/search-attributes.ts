import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common';

/** What operators find runs by in the Temporal UI. Set when a run starts; model and provider change when a fallback answers. */
export const SEARCH_ATTRIBUTES = {
  team: defineSearchAttributeKey('HoldfastTeam', SearchAttributeType.KEYWORD),
  key: defineSearchAttributeKey('HoldfastKey', SearchAttributeType.KEYWORD),
  model: defineSearchAttributeKey('HoldfastModel', SearchAttributeType.KEYWORD),
  /** The period of a cost report. */
  report: defineSearchAttributeKey('HoldfastReport', SearchAttributeType.KEYWORD),
  provider: defineSearchAttributeKey('HoldfastProvider', SearchAttributeType.KEYWORD),
} as const;

/**
 * What the server notes of a run after its first workflow task, by the worker that did it. A run that starts with the
 * same note is spared one of its three records in the list of runs.
 */
export const buildIdsOf = (buildId: string) => ({
  key: defineSearchAttributeKey('BuildIds', SearchAttributeType.KEYWORD_LIST),
  value: ['unversioned', `unversioned:${buildId}`],
});
