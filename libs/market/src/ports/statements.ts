import type { AccountRef } from '@freehold/domain';
import type { StatementLine } from '@freehold/protocol';

export interface StatementAsk {
  readonly account: AccountRef;
  /** [from, until), as moments of UTC (RFC 3339), by the database's clock at the posting; null: no bound. */
  readonly from: string | null;
  readonly until: string | null;
  /** The id of the last line of the page before. */
  readonly after: string | null;
  readonly limit: number;
}

export interface StatementPage {
  /** The balance before the page's first line. */
  readonly opening: bigint;
  /** Oldest first. */
  readonly lines: readonly StatementLine[];
  readonly hasMore: boolean;
}

/**
 * Accounts of the ledger, line by line. Who may see which account is for the caller to know. What was posted within the last
 * seconds may still be joined by lines that come before it; a period that is over for a minute never changes again.
 */
export abstract class Statements {
  abstract read(ask: StatementAsk): Promise<StatementPage>;
}
