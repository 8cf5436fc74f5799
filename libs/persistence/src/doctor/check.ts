import type { Sql } from '../database.ts';

/** What only others know: given, the checks that need it are made; left out, they are not counted as made. */
export interface DoctorFacts {
  /** How long something may be in flight before it counts as stuck. */
  readonly stuckAfterMs?: number;
  /** What the escrow holds for us on chain, at the block that the ledger stands at. */
  readonly chain?: { readonly escrowBalance: bigint };
  /** Ids of the outbox rows that the queue has waiting or at work. */
  readonly queueEntries?: readonly string[];
}

export interface DoctorCheck {
  /** Stable; fault tests and people name it. */
  readonly name: string;
  /** What is asked, as a sentence that must be true. */
  readonly claim: string;
  /** Absent: always made. */
  readonly needs?: (facts: DoctorFacts) => boolean;
  /** Each finding in words. Empty: the claim holds. At most {@link FINDINGS_MAX}. */
  readonly find: (sql: Sql, facts: DoctorFacts) => Promise<readonly string[]>;
}

/** One broken thing often shows a thousand times: so many are printed. */
export const FINDINGS_MAX = 20;
/** RELIABILITY: a lease unreaped, or a message unsent, for a minute is a fault. */
export const STUCK_AFTER_MS = 60_000;

/** A check in SQL: every row's `what` is a finding. `$1` is the interval after which something in flight is stuck. */
export function sqlCheck(name: string, claim: string, sql: string): DoctorCheck {
  return {
    name,
    claim,
    find: async (database, facts) => {
      const stuck = `${facts.stuckAfterMs ?? STUCK_AFTER_MS} milliseconds`;
      const rows = await database.query<{ what: string }>(
        `WITH given AS (SELECT $1::interval AS stuck) SELECT what FROM (${sql}) AS found LIMIT ${FINDINGS_MAX}`,
        [stuck],
      );
      return rows.map(({ what }) => what);
    },
  };
}
