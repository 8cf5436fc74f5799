import { Leadership } from '@freehold/market';
import type { Database } from '../database.ts';

/** Advisory lock class of offices; the office's name is the second key. */
const OFFICE_LOCK = 7_316_003;

/**
 * Offices as session advisory locks: whoever loses its connection loses the office. That alone is no fence (a stalled leader
 * may wake up behind its successor), so every move below it is unique or a compare-and-set as well.
 */
export class PgLeadership extends Leadership {
  readonly #database: Database;

  constructor(database: Database) {
    super();
    this.#database = database;
  }

  override async attempt<T>(office: string, work: () => Promise<T>): Promise<T | null> {
    const session = this.#database.dataSource.createQueryRunner();
    try {
      const answer = (await session.query('SELECT pg_try_advisory_lock($1, hashtext($2)) AS taken', [
        OFFICE_LOCK,
        office,
      ])) as {
        taken: boolean;
      }[];
      if (answer[0]?.taken !== true) return null;
      try {
        return await work();
      } finally {
        await session.query('SELECT pg_advisory_unlock($1, hashtext($2))', [OFFICE_LOCK, office]);
      }
    } finally {
      await session.release();
    }
  }
}
