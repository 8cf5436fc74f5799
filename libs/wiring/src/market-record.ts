import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

/** Where a market on one data directory is reached; written by the launcher, read by `freehold …` commands beside it. */
export const MarketRecord = z.object({
  databaseUrl: z.string(),
  rpcUrl: z.string(),
  baseURL: z.string().nullable(),
  contracts: z.object({ chainId: z.number(), token: z.string(), escrow: z.string(), book: z.string() }).loose(),
  /** The coordinator's two libp2p hosts, for nodes to dial. */
  p2p: z.array(z.string()),
});
export type MarketRecord = z.infer<typeof MarketRecord>;

const FILE = 'market.json';

/** The database's address carries its password: the file is its owner's alone. */
export function writeMarketRecord(dataDir: string, record: MarketRecord): void {
  const file = join(dataDir, FILE);
  writeFileSync(`${file}.new`, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

export function readMarketRecord(dataDir: string): MarketRecord | null {
  const file = join(dataDir, FILE);
  return existsSync(file) ? MarketRecord.parse(JSON.parse(readFileSync(file, 'utf8'))) : null;
}
