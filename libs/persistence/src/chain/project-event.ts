import type { AccountRef } from '@freehold/domain';
import { ledger } from '@freehold/domain';
import {
  changeOfEvent,
  unclaimedLaneOf,
  type ChainChange,
  type ChainEvent,
  type ChainNames,
  type Lane,
} from '@freehold/market';
import type { Sql } from '../database.ts';
import { bytesOfHex } from './bytes.ts';

/** What our tables say about the book; changed by events, changed back when they are removed. */
export interface Projection {
  readonly book: string;
  readonly escrow: string;
  /** Whose orders stand behind credits. */
  readonly operatorPayer: string | null;
}

/** Writes what an event says into the tables that acceptance and settlement read. Runs before the event's ledger entries are made. */
export async function projectEvent(tx: Sql, of: Projection, event: ChainEvent): Promise<void> {
  switch (event.name) {
    case 'BookOpened':
      return openBook(tx, of, event);
    case 'PayeeAdded':
      await tx.query(
        `INSERT INTO chain_payee (book, payee, payee_index) VALUES ($1, $2, $3)
         ON CONFLICT (book, payee) DO UPDATE SET payee_index = excluded.payee_index`,
        [of.book, event.payee, event.index],
      );
      return;
    case 'OrderOpened':
      return openOrder(tx, of, event);
    default: {
      const made = changeOfEvent(event)?.made ?? null;
      if (made !== null) await change(tx, of, made);
    }
  }
}

/** Takes an event back that is not on the chain any more. Whatever it was about may come again in another block. */
export async function unprojectEvent(tx: Sql, of: Projection, event: ChainEvent): Promise<void> {
  if (event.name === 'PayeeAdded')
    await tx.query('UPDATE chain_payee SET payee_index = NULL WHERE book = $1 AND payee_index = $2', [
      of.book,
      event.index,
    ]);
  const undone = changeOfEvent(event)?.undone ?? null;
  if (undone !== null) await change(tx, of, undone);
}

async function change(tx: Sql, of: Projection, to: ChainChange): Promise<void> {
  switch (to.of) {
    case 'book':
      await tx.query('UPDATE chain_book SET state = $2 WHERE book = $1', [of.book, to.state]);
      return;
    case 'order':
      return moveOrder(tx, of, to.order, to.state, to.closeEpoch);
    case 'lanes':
      return addToLanes(tx, of, to.order, to.reserved, to.free);
    case 'epoch':
      return moveEpoch(tx, of, to.epoch, to.state);
  }
}

/** What indices stand for after everything before this event was projected. */
export async function namesFor(tx: Sql, of: Projection, event: ChainEvent): Promise<ChainNames> {
  const payees = await tx.query<{ payee: string; payee_index: number }>(
    'SELECT payee, payee_index FROM chain_payee WHERE book = $1 AND payee_index IS NOT NULL',
    [of.book],
  );
  const byIndex = new Map(payees.map(({ payee, payee_index }) => [payee_index, payee]));
  const lane = 'order' in event ? await laneOf(tx, of, event.order) : null;
  const posted = event.name === 'EpochFinal' ? await postedCredits(tx, event.epoch) : new Map<number, bigint>();
  const [book] = await tx.query<{ delegate: string }>('SELECT delegate FROM chain_book WHERE book = $1', [of.book]);
  return {
    lane: () => known(lane, 'order', 'order' in event ? event.order : -1),
    payee: (index) => known(byIndex.get(index), 'payee', index),
    posted: () => posted,
    delegate: book?.delegate ?? '',
  };
}

function known<T>(found: T | null | undefined, kind: string, index: number): T {
  if (found !== null && found !== undefined) return found;
  throw new Error(
    `The chain names ${kind} ${index}, which it never announced to us. Start reading from the escrow's first block.`,
  );
}

async function laneOf(tx: Sql, of: Projection, order: number): Promise<AccountRef | null> {
  const [row] = await tx.query<{ org_id: string | null; is_operator: boolean; payer: string }>(
    'SELECT org_id, is_operator, payer FROM chain_order WHERE book = $1 AND order_index = $2',
    [of.book, order],
  );
  if (row === undefined) return null;
  if (row.is_operator) return ledger.OPERATOR;
  return row.org_id === null ? unclaimedLaneOf(row.payer) : ledger.balanceOf(row.org_id);
}

/** The last posting of an epoch is the one that became final. */
async function postedCredits(tx: Sql, epoch: bigint): Promise<ReadonlyMap<number, bigint>> {
  const [row] = await tx.query<{ args: { credits: [number, string][] } }>(
    `SELECT args FROM chain_event WHERE name = 'EpochPosted' AND NOT removed AND args ->> 'epoch' = $1
     ORDER BY block_number DESC, log_index DESC LIMIT 1`,
    [String(epoch)],
  );
  if (row === undefined)
    throw new Error(
      `Epoch ${epoch} became final, but its posting was never read. Start reading from the escrow's first block.`,
    );
  return new Map(row.args.credits.map(([index, amount]): Lane => [index, BigInt(amount)]));
}

async function openBook(tx: Sql, of: Projection, event: Extract<ChainEvent, { name: 'BookOpened' }>): Promise<void> {
  await tx.query(
    `INSERT INTO chain_book (book, escrow, delegate, fee_bps, starts_at, epoch_seconds, window_seconds, grace_seconds, opened_block)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (book) DO UPDATE SET opened_block = excluded.opened_block`,
    [
      of.book,
      of.escrow,
      event.delegate,
      event.feeBps,
      String(event.startsAt),
      event.epochSeconds,
      event.windowSeconds,
      event.graceSeconds,
      String(event.blockNumber),
    ],
  );
  await tx.query('INSERT INTO chain_epoch (book, epoch) VALUES ($1, 0) ON CONFLICT DO NOTHING', [of.book]);
}

async function openOrder(tx: Sql, of: Projection, event: Extract<ChainEvent, { name: 'OrderOpened' }>): Promise<void> {
  const isOperator = event.payer === of.operatorPayer;
  await tx.query(
    `INSERT INTO chain_order AS o (book, order_index, params, org_id, is_operator, payer, refund_to, reserved, free, opened_block)
     VALUES ($1, $2, $3, (SELECT id FROM org WHERE wallet = $4 AND NOT $5 ORDER BY id LIMIT 1), $5, $4, $6, $7, $8, $9)
     ON CONFLICT (book, order_index) DO UPDATE SET params = excluded.params, org_id = excluded.org_id,
       is_operator = excluded.is_operator, payer = excluded.payer, refund_to = excluded.refund_to, reserved = excluded.reserved,
       free = excluded.free, opened_block = excluded.opened_block, state = 'open', close_epoch = NULL`,
    [
      of.book,
      event.order,
      bytesOfHex(event.params),
      event.payer,
      isOperator,
      event.refundTo,
      String(event.reserved),
      String(event.free),
      String(event.blockNumber),
    ],
  );
}

async function addToLanes(tx: Sql, of: Projection, order: number, reserved: bigint, free: bigint): Promise<void> {
  await tx.query(
    'UPDATE chain_order SET reserved = reserved + $3::numeric, free = free + $4::numeric WHERE book = $1 AND order_index = $2',
    [of.book, order, String(reserved), String(free)],
  );
}

async function moveOrder(tx: Sql, of: Projection, order: number, state: string, closeEpoch?: bigint): Promise<void> {
  await tx.query(
    `UPDATE chain_order SET state = $3,
       close_epoch = CASE WHEN $3 = 'open' THEN NULL ELSE coalesce($4::bigint, close_epoch) END
     WHERE book = $1 AND order_index = $2`,
    [of.book, order, state, closeEpoch === undefined ? null : String(closeEpoch)],
  );
}

/** An epoch that is open here was posted by somebody else's hand: it stays open for the vouchers that go into it. */
async function moveEpoch(tx: Sql, of: Projection, epoch: bigint, state: string): Promise<void> {
  await tx.query(`UPDATE chain_epoch SET state = $3 WHERE book = $1 AND epoch = $2 AND state <> 'open'`, [
    of.book,
    String(epoch),
    state,
  ]);
}
