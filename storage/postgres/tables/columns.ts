import type { ColumnType } from 'kysely';

/** A bigint column of nano-dollars; node-postgres hands bigints out as strings, `connect` parses them to numbers. */
export type Nanos = number;
export type Timestamp = ColumnType<Date, Date | undefined, Date>;
