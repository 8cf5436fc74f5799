import type { ChainHistory, ChainTransactions, SavedTransaction } from './ports/chain-store.ts';
import type { BookHoldings, Escrow } from './ports/escrow.ts';

export interface ChainFacts {
  /** The block that the ledger stands at; null before anything was read. */
  readonly block: bigint | null;
  readonly holdings: BookHoldings | null;
  /** What our book holds on chain at that block: lanes, balances and bond. Must be minus the ledger's escrow account, exactly. */
  readonly escrowBalance: bigint;
  /** Our transactions that are signed and not confirmed, one by one. */
  readonly pending: readonly SavedTransaction[];
}

const ATTEMPTS_MAX = 5;

/** Facts for the doctor, taken at one block: if the ledger moved on while the chain was read, it is read again. */
export async function chainFacts(ports: {
  readonly escrow: Escrow;
  readonly history: ChainHistory;
  readonly transactions: ChainTransactions;
  readonly sender: string;
}): Promise<ChainFacts> {
  for (let attempt = 1; ; attempt += 1) {
    const [at] = await ports.history.blocks(1);
    const pending = await ports.transactions.open(ports.sender);
    if (at === undefined) return { block: null, holdings: null, escrowBalance: 0n, pending };
    const holdings = await ports.escrow.holdings(at.number);
    const [after] = await ports.history.blocks(1);
    if (after?.hash === at.hash || attempt === ATTEMPTS_MAX) {
      const escrowBalance = holdings.lanes + holdings.balances + holdings.bond;
      return { block: at.number, holdings, escrowBalance, pending };
    }
  }
}
