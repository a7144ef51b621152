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
