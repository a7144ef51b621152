import type { Sql } from '../../storage/postgres/database.ts';
import type { IdempotencyKey } from '../../storage/postgres/idempotency.ts';
import type { ApiDeps } from '../context.ts';

export interface SubmittedRun {
  readonly id: string;
  /** Whether an earlier request with the same `Idempotency-Key` made it. */
  readonly replayed: boolean;
}

export interface NewSubmission {
  readonly id: string;
  readonly idempotencyKey: IdempotencyKey | undefined;
  /** @param replaces The run that loses the `Idempotency-Key` to this one. */
  insert(db: Sql, replaces: string | undefined): Promise<void>;
  start(): Promise<void>;
  /**
   * Whether the run that has the key answers for this one, too. Sees to it that it goes on: whoever made it may have died
   * before its workflow was started.
   */
  attach(holder: string): Promise<boolean>;
}

/** Commits a run in the background and starts it, or finds the one that its `Idempotency-Key` stands for. */
export async function submitOnce(
  { db, idempotency }: Pick<ApiDeps, 'db' | 'idempotency'>,
  { id, idempotencyKey, insert, start, attach }: NewSubmission,
): Promise<SubmittedRun> {
  if (!idempotencyKey) {
    await db.transaction().execute((transaction) => insert(transaction, undefined));
    await start();
    return { id, replayed: false };
  }
  for (let replaces: string | undefined; ; ) {
    const taken = await idempotency.once(idempotencyKey, id, replaces, (transaction) => insert(transaction, replaces));
    if (taken === id) {
      await start();
      return { id, replayed: false };
    }
    if (await attach(taken)) return { id: taken, replayed: true };
    replaces = taken;
  }
}
