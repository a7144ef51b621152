import type { Insertable, Selectable, Updateable } from 'kysely';
import { isForeignKeyViolation, isUniqueViolation, type Sql } from './database.ts';
import type { Database } from './schema.ts';

/** The tables of tenancy: all have an id that the administrator may choose, and a name. */
export type TenantTable = 'organisations' | 'teams' | 'projects' | 'users';

/** `conflict`: the id (or email) is taken, or it is still referred to. `missing`: it refers to one that is not there. */
export type Written<T> = T | 'conflict' | 'missing';

/** Organisations, teams, projects and users: the same operations on each. */
export class Tenants {
  private readonly db: Sql;

  constructor(db: Sql) {
    this.db = db;
  }

  async create<T extends TenantTable>(table: T, row: Insertable<Database[T]>): Promise<Written<Tenant<T>>> {
    return writing(async () => {
      const query = this.db.insertInto(table as TenantTable).values(row as Insertable<Database[TenantTable]>);
      return (await query.returningAll().executeTakeFirstOrThrow()) as unknown as Tenant<T>;
    });
  }

  async get<T extends TenantTable>(table: T, id: string): Promise<Tenant<T> | undefined> {
    const query = this.db
      .selectFrom(table as TenantTable)
      .selectAll()
      .where('id', '=', id);
    return (await query.executeTakeFirst()) as Tenant<T> | undefined;
  }

  /** In the order of their ids, after `cursor`. */
  async list<T extends TenantTable>(
    table: T,
    limit: number,
    cursor: string | undefined,
  ): Promise<readonly Tenant<T>[]> {
    const query = this.db
      .selectFrom(table as TenantTable)
      .selectAll()
      .$if(cursor !== undefined, (q) => q.where('id', '>', cursor as string));
    return (await query.orderBy('id').limit(limit).execute()) as unknown as readonly Tenant<T>[];
  }

  async update<T extends TenantTable>(
    table: T,
    id: string,
    changes: Updateable<Database[T]>,
  ): Promise<Written<Tenant<T> | undefined>> {
    return writing(async () => {
      const query = this.db
        .updateTable(table as TenantTable)
        .set({ ...(changes as Updateable<Database[TenantTable]>), updated_at: new Date() })
        .where('id', '=', id);
      return (await query.returningAll().executeTakeFirst()) as unknown as Tenant<T> | undefined;
    });
  }

  /** true if there was one. */
  async remove(table: TenantTable, id: string): Promise<Written<boolean>> {
    try {
      const { numDeletedRows } = await this.db.deleteFrom(table).where('id', '=', id).executeTakeFirstOrThrow();
      return numDeletedRows > 0n;
    } catch (error) {
      if (isForeignKeyViolation(error)) return 'conflict';
      throw error;
    }
  }
}

export type Tenant<T extends TenantTable> = Selectable<Database[T]>;

async function writing<T>(write: () => Promise<T>): Promise<Written<T>> {
  try {
    return await write();
  } catch (error) {
    if (isUniqueViolation(error)) return 'conflict';
    if (isForeignKeyViolation(error)) return 'missing';
    throw error;
  }
}
