import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { addressOfKey, EscrowClient, openDevnetOrder } from '@freehold/chain';
import { createKey, createOrg, syncChain } from '@freehold/market';
import { openDatabase, PgAccountStore, PgChainHistory, type Database } from '@freehold/persistence';
import { SystemEntropy } from '../coordinator/surroundings.ts';
import type { ChainRecord } from './prepare-chain.ts';
import { readRequester, saveRequester, type RequesterFile } from './requester-file.ts';

export interface RequesterRecord {
  readonly orgId: string;
  readonly apiKey: string;
  readonly order: number;
}

/** 1,000 play dollars: what the demonstration spends is a small part of it. */
const DEPOSIT = 1_000_000_000n;
const READS_MAX = 50;
const READ_AGAIN_MS = 100;

/** A requester with its own wallet, an API key, and an order in the book with money in it: the roads a real one takes. */
export async function prepareRequester(options: {
  readonly databaseUrl: string;
  readonly rpcUrl: string;
  readonly dataDir: string;
  readonly chain: ChainRecord;
}): Promise<RequesterRecord> {
  const database = await openDatabase({ url: options.databaseUrl, poolSize: 2, applicationName: 'freehold-devnet' });
  try {
    const known = readRequester(options.dataDir) ?? (await introduce(database, options.dataDir));
    if (known.order !== null) return { orgId: known.orgId, apiKey: known.apiKey, order: known.order };
    const order = (await orderOf(database, options, known.orgId)) ?? (await openOrder(database, options, known));
    saveRequester(options.dataDir, { ...known, order });
    return { orgId: known.orgId, apiKey: known.apiKey, order };
  } finally {
    await database.close();
  }
}

async function introduce(database: Database, dataDir: string): Promise<RequesterFile> {
  const walletKey = `0x${randomBytes(32).toString('hex')}` as const;
  const ports = { accounts: new PgAccountStore(database), entropy: new SystemEntropy() };
  const { orgId } = await createOrg(ports, {
    name: 'devnet requester',
    trust: 'self-custody',
    wallet: addressOfKey(walletKey),
  });
  const { key } = await createKey(ports, { orgId });
  const record = { orgId, apiKey: key, walletKey, order: null };
  // Saved before any money goes to the wallet: a key that is lost takes its money along.
  saveRequester(dataDir, record);
  return record;
}

type Where = { readonly rpcUrl: string; readonly chain: ChainRecord };

async function openOrder(database: Database, where: Where, requester: RequesterFile): Promise<number> {
  const devnet = { token: hex(where.chain.token), escrow: hex(where.chain.escrow), book: hex(where.chain.book) };
  const salt = hex(`0x${randomBytes(32).toString('hex')}`);
  await openDevnetOrder(where.rpcUrl, hex(requester.walletKey), devnet, { reserved: DEPOSIT, free: 0n, salt });
  // A coordinator that reads the chain at the same time may take a step from us that ends before the order's block.
  for (let reads = 0; reads < READS_MAX; reads += 1) {
    const order = await orderOf(database, where, requester.orgId);
    if (order !== null) return order;
    await sleep(READ_AGAIN_MS);
  }
  throw new Error(`The order of ${requester.orgId} was opened but is not on the chain. Start with --fresh.`);
}

/** Reads the chain into the ledger, so that the deposit is there before the first request, and finds the org's order. */
async function orderOf(database: Database, where: Where, orgId: string): Promise<number | null> {
  const { book, escrow, fromBlock } = where.chain;
  const client = new EscrowClient({ rpcUrl: where.rpcUrl, escrow, book });
  const history = new PgChainHistory(database, { book, escrow: escrow.toLowerCase(), operatorPayer: null });
  await history.rememberChain(await client.identity());
  await syncChain({ escrow: client, history, fromBlock: BigInt(fromBlock), depth: 0n });
  const [row] = await database.query<{ order_index: number }>(
    `SELECT order_index FROM chain_order WHERE book = $1 AND org_id = $2 AND state = 'open' ORDER BY order_index DESC LIMIT 1`,
    [book, orgId],
  );
  return row?.order_index ?? null;
}

function hex(text: string): `0x${string}` {
  return text as `0x${string}`;
}
