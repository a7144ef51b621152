/** What a provider lets the gateway do with a model per minute; absent where nobody knows. */
export interface ProviderLimits {
  readonly requests?: number;
  readonly tokens?: number;
}

/** What a provider says about one of its limits. */
export interface ReportedLimit {
  readonly limit: number;
  readonly remaining?: number;
  /** Milliseconds until all of it is free again. */
  readonly resetMs?: number;
}

/** What an answer, or a refusal, of a provider says about its limits. */
export interface LimitReport {
  readonly requests?: ReportedLimit;
  readonly tokens?: ReportedLimit;
  /** Milliseconds in which nothing more should be called. */
  readonly pauseMs?: number;
}
