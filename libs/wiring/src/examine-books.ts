import { EscrowClient, type Rpc } from '@freehold/chain';
import { chainFacts } from '@freehold/market';
import {
  PgBooksWatch,
  PgChainHistory,
  PgChainTransactions,
  PgPayoutGate,
  pendingTransactions,
  runDoctor,
  type Database,
  type DoctorFacts,
  type DoctorReport,
} from '@freehold/persistence';

/** Whatever of a market's surroundings can be asked; without them, the checks that need them are not made. */
export interface BooksSurroundings {
  readonly database: Database;
  readonly chain: { readonly rpcUrl: Rpc; readonly escrow: string; readonly book: string } | null;
  /** Outbox ids that the queue has; null when it cannot say. */
  readonly queueEntries: () => Promise<readonly string[] | null>;
}

export interface Examination extends DoctorReport {
  /** Both sides at one block; null when the chain was not asked. */
  readonly chain: {
    readonly block: string;
    readonly escrow: string;
    readonly ledger: string;
    readonly pending: readonly string[];
  } | null;
  /** Why no money leaves; null when it does. */
  readonly payoutsHalted: string | null;
}

/** The ledger may move while the chain is read: then both are read again, so often. */
const EXAMINATIONS_MAX = 5;

/** Every check that the surroundings allow: one implementation for the operator's command, the scheduler and fault tests. What it found is noted for gauges. */
export async function examineBooks(books: BooksSurroundings): Promise<Examination> {
  const { database } = books;
  const examination = await examined(books);
  const { checks, violations, byCheck } = examination;
  await new PgBooksWatch(database).note({ checks, violations: violations.length, byCheck });
  return examination;
}

async function examined(books: BooksSurroundings): Promise<Examination> {
  const { database } = books;
  for (let attempt = 1; ; attempt += 1) {
    const queueEntries = await books.queueEntries();
    const queue: DoctorFacts = queueEntries === null ? {} : { queueEntries };
    const chain = await chainSide(books);
    const report = await runDoctor(database, {
      ...queue,
      ...(chain === null ? {} : { chain: { escrowBalance: chain.escrow } }),
    });
    const halted = (await new PgPayoutGate(database).state()).halted?.why ?? null;
    if (chain === null) return { ...report, chain: null, payoutsHalted: halted };
    const isAgain = report.violations.length > 0 && attempt < EXAMINATIONS_MAX;
    // Every order and payee is read for it: only where it can make a difference.
    if (isAgain && (await chainSide(books))?.escrow !== chain.escrow) continue;
    const shown = {
      block: String(chain.block),
      escrow: String(chain.escrow),
      ledger: String(chain.ledger),
      pending: await pendingTransactions(database),
    };
    return { ...report, chain: shown, payoutsHalted: halted };
  }
}

/** Null when the chain does not answer, or nothing of it was read yet: then nothing is said about it. */
async function chainSide(books: BooksSurroundings): Promise<{ block: bigint; escrow: bigint; ledger: bigint } | null> {
  if (books.chain === null) return null;
  const { rpcUrl, escrow: address, book } = books.chain;
  const history = new PgChainHistory(books.database, { book, escrow: address.toLowerCase(), operatorPayer: null });
  const escrow = new EscrowClient({ rpcUrl, escrow: address, book });
  const transactions = new PgChainTransactions(books.database);
  try {
    const { block, escrowBalance } = await chainFacts({ escrow, history, transactions, sender: '' });
    const booked = await new PgPayoutGate(books.database).booked();
    return block === null || booked === null ? null : { block, escrow: escrowBalance, ledger: booked.escrow };
  } catch (error) {
    if (error instanceof Error && error.name !== 'TypeError') return null;
    throw error;
  }
}
