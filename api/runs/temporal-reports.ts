import { Client } from '@temporalio/client';
import { HoldfastError } from '../../domain/errors.ts';
import { type ReportRange, reportId } from '../../domain/report-period.ts';
import type { costReport } from '../../workflows/cost-report.ts';
import { SEARCH_ATTRIBUTES } from '../../workflows/search-attributes.ts';
import type { TemporalRunsOptions } from './temporal-runs.ts';

/** Milliseconds a caller waits for a report. */
const PATIENCE_MS = 60_000;

/** Cost reports on demand. */
export class TemporalReports {
  private readonly client: Client;
  private readonly options: Omit<TemporalRunsOptions, 'buildId'>;

  constructor(options: Omit<TemporalRunsOptions, 'buildId'>) {
    this.options = options;
    this.client = new Client({ connection: options.connection, namespace: options.namespace });
  }

  /** Makes the report of a period and resolves with its id. Throws `gateway_unavailable`. */
  async make({ period, since, until }: ReportRange): Promise<string> {
    const { taskQueue, searchable } = this.options;
    const id = reportId({ period, since });
    try {
      return await this.client.withDeadline(Date.now() + PATIENCE_MS, () =>
        this.client.workflow.execute<typeof costReport>('costReport', {
          workflowId: `${taskQueue}-cost-report-${id}`,
          taskQueue,
          args: [{ period, since }],
          // Whoever asks for the same report at the same time gets the same run.
          workflowIdConflictPolicy: 'USE_EXISTING',
          staticSummary: `${period} cost report`,
          staticDetails: `From ${since} until ${until}.`,
          ...(searchable && { typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.report, value: period }] }),
        }),
      );
    } catch (error) {
      throw new HoldfastError('gateway_unavailable', 'The report cannot be made right now. Try again shortly.', {
        cause: error,
      });
    }
  }
}
