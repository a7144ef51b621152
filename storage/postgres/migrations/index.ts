import type { Migration } from 'kysely';
import * as foundation from './0001-foundation.ts';
import * as tenancy from './0002-tenancy.ts';
import * as credentials from './0003-credentials.ts';
import * as access from './0004-access.ts';
import * as costs from './0005-costs.ts';
import * as settings from './0006-settings.ts';
import * as runs from './0007-runs.ts';
import * as webhooks from './0008-webhooks.ts';
import * as files from './0009-files.ts';
import * as batches from './0010-batches.ts';
import * as agents from './0011-agents.ts';

/** Forward-only, in this order. A landed migration is never edited. */
export const migrations: Readonly<Record<string, Migration>> = {
  '0001-foundation': foundation,
  '0002-tenancy': tenancy,
  '0003-credentials': credentials,
  '0004-access': access,
  '0005-costs': costs,
  '0006-settings': settings,
  '0007-runs': runs,
  '0008-webhooks': webhooks,
  '0009-files': files,
  '0010-batches': batches,
  '0011-agents': agents,
};
