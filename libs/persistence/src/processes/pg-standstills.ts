import { Standstills, type Standstill } from '@freehold/market';
import type { Database } from '../database.ts';

/** A process shows itself every second; what is older is of one that died or hangs, and its nodes are another's by now. */
const SHOWN_MS = 15_000;

type Kept = Omit<Standstill, 'reservations' | 'gangShards'> & Partial<Pick<Standstill, 'reservations' | 'gangShards'>>;

/** Beside the processes themselves: one row for each, overwritten. */
export class PgStandstills extends Standstills {
  readonly #database: Database;

  constructor(database: Database) {
    super();
    this.#database = database;
  }

  async show(process: string, standstill: Standstill): Promise<void> {
    await this.#database.query(
      `INSERT INTO coordinator (key, value) VALUES ('standstill.' || $1, $2::jsonb)
       ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = clock_timestamp()`,
      [process, JSON.stringify(standstill)],
    );
  }

  async shown(): Promise<readonly Standstill[]> {
    const rows = await this.#database.query<{ value: Kept; age_ms: number }>(
      `SELECT value, (extract(epoch FROM clock_timestamp() - updated_at) * 1000)::float8 AS age_ms FROM coordinator
       WHERE key LIKE 'standstill.%' AND updated_at > clock_timestamp() - $1 * interval '1 millisecond'`,
      [SHOWN_MS],
    );
    return rows.map(({ value, age_ms: ageMs }) => ({
      ...value,
      // One that is older than reservations shows none.
      reservations: (value.reservations ?? []).flatMap((one) =>
        one.expiresInMs > ageMs
          ? [{ ...one, startsInMs: Math.max(0, one.startsInMs - ageMs), expiresInMs: one.expiresInMs - ageMs }]
          : [],
      ),
      gangShards: value.gangShards ?? [],
      rests: value.rests.flatMap((rest) => (rest.forMs > ageMs ? [{ ...rest, forMs: rest.forMs - ageMs }] : [])),
    }));
  }
}
