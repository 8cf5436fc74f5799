import { DomainError, ledger, type LedgerEntry } from '@freehold/domain';
import { ChainHistory, ledgerOfChain, type ChainBlock, type ChainEvent, type ChainStep } from '@freehold/market';
import type { Database, Sql } from '../database.ts';
import { covered } from '../ledger/cover-shortage.ts';
import { post } from '../ledger/ledger.ts';
import { bytesOfHex, hexOf } from './bytes.ts';
import { eventFromRow, jsonOfEvent, type EventRow } from './event-json.ts';
import { namesFor, projectEvent, unprojectEvent, type Projection } from './project-event.ts';

/** One step at a time over all processes. */
const STEP_LOCK = 7_316_004;
/** Remembered blocks: deeper reorganisations are undone back to the first block. */
const BLOCKS_KEPT = 2_000;
const CHAIN_KEY = 'chain';

/** What we have read of the chain. Events, their projection and their ledger entries commit together, or not at all. */
export class PgChainHistory extends ChainHistory {
  readonly #database: Database;
  readonly #of: Projection;

  constructor(database: Database, of: Projection) {
    super();
    this.#database = database;
    this.#of = of;
  }

  override async rememberChain(identity: {
    readonly chainId: number;
    readonly genesis: string;
    readonly escrow: string;
  }): Promise<void> {
    const [known] = await this.#database.query<{ value: typeof identity }>(
      `INSERT INTO coordinator (key, value) VALUES ($1, $2)
       ON CONFLICT (key) DO UPDATE SET updated_at = clock_timestamp() RETURNING value`,
      [CHAIN_KEY, JSON.stringify(identity)],
    );
    const was = known?.value ?? identity;
    if (was.chainId === identity.chainId && was.genesis === identity.genesis && was.escrow === identity.escrow) return;
    throw new DomainError(
      { code: 'CHAIN_DIFFERS', expected: was, found: identity },
      `This database was filled from chain ${was.chainId} with genesis ${was.genesis} and escrow ${was.escrow}; the RPC endpoint serves chain ${identity.chainId} with genesis ${identity.genesis} for escrow ${identity.escrow}. Point RPC_URL to the first one, or start with an empty database.`,
    );
  }

  override async blocks(limit: number): Promise<readonly ChainBlock[]> {
    const rows = await this.#database.query<{ number: string; hash: Buffer }>(
      'SELECT number, hash FROM chain_block ORDER BY number DESC LIMIT $1',
      [limit],
    );
    return rows.map(({ number, hash }) => ({ number: BigInt(number), hash: hexOf(hash) }));
  }

  override async absorb(
    step: ChainStep,
  ): Promise<{ readonly absorbed: boolean; readonly applied: number; readonly undone: number }> {
    return this.#database.transaction(
      async (tx) => {
        await tx.query('SELECT pg_advisory_xact_lock($1)', [STEP_LOCK]);
        if (!(await standsAt(tx, step.from))) return { absorbed: false, applied: 0, undone: 0 };
        const undone = step.forkedAt === null ? 0 : await this.#undoAbove(tx, step.forkedAt);
        let applied = 0;
        for (const event of step.events) if (await this.#apply(tx, event)) applied += 1;
        await rememberBlocks(tx, step);
        return { absorbed: true, applied, undone };
      },
      { durable: true },
    );
  }

  async #apply(tx: Sql, event: ChainEvent): Promise<boolean> {
    const { name, args } = jsonOfEvent(event);
    const [written] = await tx.query<{ applied: number }>(
      `INSERT INTO chain_event AS e (block_hash, log_index, block_number, name, args) VALUES ($1, $2, $3, $4, $5)
       ON CONFLICT (block_hash, log_index) DO UPDATE SET removed = false, applied = e.applied + 1 WHERE e.removed
       RETURNING applied`,
      [bytesOfHex(event.blockHash), event.logIndex, String(event.blockNumber), name, JSON.stringify(args)],
    );
    if (written === undefined) return false;
    await projectEvent(tx, this.#of, event);
    const ref = `${event.blockHash}:${event.logIndex}:${written.applied}`;
    const entries: LedgerEntry[] = [];
    for (const entry of ledgerOfChain(event, await namesFor(tx, this.#of, event), ref)) {
      // One at a time: the next one's cover depends on the balances that this one leaves.
      await post(tx, [await covered(tx, entry)]);
      // Kept without its cover: undone, it must also undo what the operator advanced, or got back, for it.
      entries.push(entry);
    }
    await tx.query('UPDATE chain_event SET entries = $3 WHERE block_hash = $1 AND log_index = $2', [
      bytesOfHex(event.blockHash),
      event.logIndex,
      JSON.stringify(entries, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value)),
    ]);
    return true;
  }

  async #undoAbove(tx: Sql, block: bigint): Promise<number> {
    const rows = await tx.query<EventRow>(
      `SELECT block_hash, log_index, block_number, name, args, entries FROM chain_event
       WHERE block_number > $1 AND NOT removed ORDER BY block_number DESC, log_index DESC`,
      [String(block)],
    );
    for (const row of rows) {
      for (const entry of entriesOf(row).reverse()) {
        await post(tx, [await covered(tx, ledger.reversal(entry, `${entry.kind}:${entry.ref}`))]);
      }
      await unprojectEvent(tx, this.#of, eventFromRow(row));
      await tx.query('UPDATE chain_event SET removed = true WHERE block_hash = $1 AND log_index = $2', [
        row.block_hash,
        row.log_index,
      ]);
    }
    await tx.query('DELETE FROM chain_block WHERE number > $1', [String(block)]);
    return rows.length;
  }
}

async function standsAt(tx: Sql, from: ChainBlock | null): Promise<boolean> {
  const [last] = await tx.query<{ number: string; hash: Buffer }>(
    'SELECT number, hash FROM chain_block ORDER BY number DESC LIMIT 1',
  );
  if (last === undefined || from === null) return last === undefined && from === null;
  return BigInt(last.number) === from.number && hexOf(last.hash) === from.hash;
}

/** The end of the step and every block with an event: a fork is then found near to where it is. */
async function rememberBlocks(tx: Sql, step: ChainStep): Promise<void> {
  const blocks = new Map(step.events.map((event) => [event.blockNumber, event.blockHash]));
  blocks.set(step.to.number, step.to.hash);
  await tx.query(
    `INSERT INTO chain_block (number, hash) SELECT * FROM unnest($1::bigint[], $2::bytea[])
     ON CONFLICT (number) DO UPDATE SET hash = excluded.hash`,
    [[...blocks.keys()].map(String), [...blocks.values()].map(bytesOfHex)],
  );
  await tx.query('DELETE FROM chain_block WHERE number < $1', [String(step.to.number - BigInt(BLOCKS_KEPT))]);
}

function entriesOf(row: EventRow): LedgerEntry[] {
  return row.entries.map((entry) => ({
    ...entry,
    postings: entry.postings.map((posting) => ({ ...posting, amount: BigInt(posting.amount) })),
  }));
}
