import { BooksWatch, type BooksSeen, type DoctorSeen } from '@freehold/market';
import { PAYOUTS_KEY } from '../chain/pg-payout-gate.ts';
import type { Database } from '../database.ts';

const DOCTOR_KEY = 'doctor';

/** What was last found about the books, for whoever asks whether all is well: one small read. */
export class PgBooksWatch extends BooksWatch {
  readonly #database: Database;

  constructor(database: Database) {
    super();
    this.#database = database;
  }

  override async seen(): Promise<BooksSeen> {
    const [row] = await this.#database.query<{
      halted: { since: string } | null;
      doctor: Omit<DoctorSeen, 'ageMs'> | null;
      age_ms: string | null;
    }>(
      `SELECT (SELECT nullif(value -> 'halted', 'null'::jsonb) FROM coordinator WHERE key = $2) AS halted,
         d.value AS doctor, extract(epoch FROM clock_timestamp() - d.updated_at) * 1000 AS age_ms
       FROM (SELECT 1) AS one LEFT JOIN coordinator d ON d.key = $1`,
      [DOCTOR_KEY, PAYOUTS_KEY],
    );
    const doctor = row?.doctor ?? null;
    return {
      payoutsHaltedSince: row?.halted?.since ?? null,
      doctor: doctor === null ? null : { ...doctor, ageMs: Math.round(Number(row?.age_ms ?? 0)) },
    };
  }

  override async note(found: Omit<DoctorSeen, 'ageMs'>): Promise<void> {
    await this.#database.query(
      `INSERT INTO coordinator (key, value) VALUES ($1, $2)
       ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = clock_timestamp()`,
      [DOCTOR_KEY, JSON.stringify(found)],
    );
  }
}
