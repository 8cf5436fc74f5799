import { setTimeout as sleep } from 'node:timers/promises';
import { closeDevnetOrder, EscrowClient, passChainTime } from '@freehold/chain';
import type { Hex } from 'viem';
import { ledger } from '@freehold/domain';
import { chainFacts, endOfEpoch } from '@freehold/market';
import {
  balanceOfAccount,
  openDatabase,
  PgChainHistory,
  PgChainTransactions,
  type Database,
} from '@freehold/persistence';
import type { ChainRecord } from './prepare-chain.ts';
import { readRequester, saveRequester } from './requester-file.ts';

export interface SettledDevnet {
  /** Confirmed transactions of the coordinator, and their gas. */
  readonly transactions: number;
  readonly gas: number;
  /** What the book holds on chain, and what the ledger says it does: decimal strings, at one block. */
  readonly escrow: string;
  readonly ledger: string;
  readonly balanced: boolean;
}

/** Each wait is for a step of the running scheduler, which looks at every block while something moves. */
const STEP_LIMIT_MS = 60_000;
/** A block is made before each look: nobody has to wait for the next second of a chain that is ours alone. */
const LOOK_EVERY_MS = 250;

/**
 * Lets the chain's clock jump over the rest of the open epoch and its window, and waits until the running coordinator has
 * posted and finalised it and paid everybody. For local chains only: on others, time passes by itself.
 */
export async function settleDevnet(options: {
  readonly databaseUrl: string;
  readonly rpcUrl: string;
  readonly dataDir: string;
  readonly chain: ChainRecord;
  readonly say: (text: string) => void;
  /** Whether the requester's order is closed and its rest refunded as well: two more epochs. Absent: yes. */
  readonly refund?: boolean;
}): Promise<SettledDevnet> {
  const { escrow: address, book } = options.chain;
  const database = await openDatabase({ url: options.databaseUrl, poolSize: 2, applicationName: 'freehold-devnet' });
  try {
    const escrow = new EscrowClient({ rpcUrl: options.rpcUrl, escrow: address, book });
    const last = await openEpoch(database, book);
    await passUntilFinal(escrow, options, last);
    await until(options, 'payouts are withdrawn', async () => (await unpaid(database)) === 0n);
    if (options.refund !== false) await refund(database, escrow, options);
    await until(options, 'the withdrawal is confirmed', () => isAllMined(database));
    return await measured(database, escrow, options.chain);
  } finally {
    await database.close();
  }
}

async function passUntilFinal(
  escrow: EscrowClient,
  options: { readonly rpcUrl: string; readonly say: (text: string) => void },
  last: bigint,
): Promise<void> {
  for (;;) {
    const now = await escrow.bookNow();
    if (now.next > last) return;
    const { timestamp } = await escrow.head();
    const end = endOfEpoch(now, now.next);
    if (timestamp < end) await passChainTime(options.rpcUrl, Number(end - timestamp));
    await until(options, `epoch ${now.next} is posted`, async () => (await escrow.bookNow()).stage !== 'waiting');
    options.say(`epoch ${now.next} is posted; its window of ${now.windowSeconds} s passes on the chain's clock`);
    await passChainTime(options.rpcUrl, Number(now.windowSeconds));
    await until(options, `epoch ${now.next} is final`, async () => (await escrow.bookNow()).next > now.next);
  }
}

/**
 * The requester takes back what it did not spend: its wallet closes the order, the epochs in which work may still be charged
 * become final, and the rest returns. Settled epochs gate the refund, never time alone.
 */
async function refund(
  database: Database,
  escrow: EscrowClient,
  options: {
    readonly rpcUrl: string;
    readonly dataDir: string;
    readonly chain: ChainRecord;
    readonly say: (text: string) => void;
  },
): Promise<void> {
  const requester = readRequester(options.dataDir);
  if (requester === null || requester.order === null) return;
  const { order } = requester;
  const devnet = { escrow: options.chain.escrow as Hex, book: options.chain.book as Hex };
  await closeDevnetOrder(options.rpcUrl, requester.walletKey as Hex, devnet, order);
  let closeEpoch: bigint | null = null;
  await until(options, `order ${order} is seen closing`, async () => {
    const [row] = await database.query<{ close_epoch: string | null }>(
      `SELECT close_epoch FROM chain_order WHERE book = $1 AND order_index = $2`,
      [options.chain.book, order],
    );
    closeEpoch = row?.close_epoch === null || row?.close_epoch === undefined ? null : BigInt(row.close_epoch);
    return closeEpoch !== null;
  });
  if (closeEpoch === null) return;
  await passUntilFinal(escrow, options, closeEpoch);
  await until(options, `order ${order} is refunded`, async () => {
    const [row] = await database.query<{ state: string }>(
      `SELECT state FROM chain_order WHERE book = $1 AND order_index = $2`,
      [options.chain.book, order],
    );
    return row?.state === 'refunded';
  });
  saveRequester(options.dataDir, { ...requester, order: null });
  options.say(`the rest of order ${order} is back in the requester's wallet`);
}

async function openEpoch(database: Database, book: string): Promise<bigint> {
  const [row] = await database.query<{ epoch: string }>(
    `SELECT max(epoch) AS epoch FROM chain_epoch WHERE book = $1 AND (state = 'open' OR state = 'closed' OR state = 'posted')
       AND (state <> 'open' OR EXISTS (SELECT 1 FROM voucher v WHERE v.book = $1 AND v.book_epoch = chain_epoch.epoch))`,
    [book],
  );
  return row?.epoch === undefined || row.epoch === null ? -1n : BigInt(row.epoch);
}

/** Credits that are final and not withdrawn, over all providers. */
async function unpaid(database: Database): Promise<bigint> {
  const [row] = await database.query<{ sum: string }>(
    `SELECT coalesce(sum(balance), 0) AS sum FROM account WHERE kind = 'payout'`,
  );
  const [open] = await database.query<{ n: string }>(
    `SELECT count(*) AS n FROM chain_epoch WHERE state IN ('closed', 'posted')`,
  );
  return BigInt(row?.sum ?? 0) + BigInt(open?.n ?? 0);
}

async function isAllMined(database: Database): Promise<boolean> {
  const [open] = await database.query<{ n: string }>(
    `SELECT count(*) AS n FROM chain_transaction WHERE state IN ('saved', 'sent')`,
  );
  return open?.n === '0';
}

async function measured(database: Database, escrow: EscrowClient, chain: ChainRecord): Promise<SettledDevnet> {
  const transactions = new PgChainTransactions(database);
  const history = new PgChainHistory(database, {
    book: chain.book,
    escrow: chain.escrow.toLowerCase(),
    operatorPayer: null,
  });
  const [sum] = await database.query<{ n: string; gas: string }>(
    `SELECT count(*) AS n, coalesce(sum(gas_used), 0) AS gas FROM chain_transaction WHERE state = 'confirmed'`,
  );
  const facts = await chainFacts({ escrow, history, transactions, sender: '' });
  const booked = -(await balanceOfAccount(database, ledger.ESCROW));
  return {
    transactions: Number(sum?.n ?? 0),
    gas: Number(sum?.gas ?? 0),
    escrow: String(facts.escrowBalance),
    ledger: String(booked),
    balanced: facts.escrowBalance === booked,
  };
}

async function until(
  { rpcUrl }: { readonly rpcUrl: string },
  what: string,
  holds: () => Promise<boolean>,
): Promise<void> {
  const deadline = performance.now() + STEP_LIMIT_MS;
  while (!(await holds())) {
    if (performance.now() > deadline)
      throw new Error(`Waited ${STEP_LIMIT_MS / 1_000} s in vain until ${what}. See the scheduler's log.`);
    await passChainTime(rpcUrl, 1);
    await sleep(LOOK_EVERY_MS);
  }
}
