import { createHmac } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deployDevnet } from '@freehold/chain';
import { z } from 'zod';
import { coordinatorKey } from '../config.ts';

/** The contracts of a devnet, as `chain/contracts.json` in its data folder. */
export const ChainRecord = z.object({
  chainId: z.int(),
  token: z.string(),
  escrow: z.string(),
  book: z.string(),
  /** Absent in folders of before: nothing is anchored there. */
  workLog: z.string().optional(),
  /** First block with anything of ours. Decimal string. */
  fromBlock: z.string(),
});
export type ChainRecord = z.infer<typeof ChainRecord>;

/** The fee of the devnet's coordinator: as its configuration has it. */
const FEE_BPS = 300;
/** An hour: seldom enough that a devnet left alone sends little, and the demonstration lets the chain's clock jump. */
const EPOCH_SECONDS = 3_600;
/** The shortest the contract allows. */
const WINDOW_SECONDS = 30;

/** Contracts and one open book whose delegate is this data folder's coordinator. Deployed once; found again at later starts. */
export async function prepareChain(options: {
  readonly rpcUrl: string;
  readonly dataDir: string;
  /** The book's fee for good; must be the coordinator's FEE_BPS. */
  readonly feeBps?: number;
}): Promise<ChainRecord> {
  const file = join(options.dataDir, 'chain', 'contracts.json');
  const known = existsSync(file) ? ChainRecord.parse(JSON.parse(readFileSync(file, 'utf8'))) : null;
  if (known !== null && (await hasCode(options.rpcUrl, known.escrow))) return known;
  const key = coordinatorKey(options.dataDir);
  const deployed = await deployDevnet({
    rpcUrl: options.rpcUrl,
    deployerKey: `0x${createHmac('sha256', key).update('freehold/devnet/deployer').digest('hex')}`,
    delegateKey: `0x${key.toString('hex')}`,
    feeBps: options.feeBps ?? FEE_BPS,
    epochSeconds: EPOCH_SECONDS,
    windowSeconds: WINDOW_SECONDS,
  });
  const { chainId, token, escrow, workLog, book, fromBlock } = deployed;
  const record = { chainId, token, escrow, book, workLog, fromBlock: String(fromBlock) };
  mkdirSync(join(options.dataDir, 'chain'), { recursive: true });
  writeFileSync(`${file}.new`, `${JSON.stringify(record, null, 2)}\n`);
  renameSync(`${file}.new`, file);
  return record;
}

/** A chain that lost its last second at a kill may have forgotten the deployment. */
async function hasCode(rpcUrl: string, address: string): Promise<boolean> {
  const response = await fetch(rpcUrl, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'eth_getCode', params: [address, 'latest'] }),
    signal: AbortSignal.timeout(10_000),
  });
  const { result } = (await response.json()) as { readonly result?: string };
  return result !== undefined && result !== '0x';
}
