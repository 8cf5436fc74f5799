import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

/** The devnet's requester, as `requester.json` in the data folder (0600): api and scheduler never read its wallet. */
const RequesterFile = z.object({
  orgId: z.string(),
  apiKey: z.string(),
  walletKey: z.string().regex(/^0x[0-9a-f]{64}$/),
  /** Its order in the book; null until the opening was seen. */
  order: z.int().nullable(),
});
export type RequesterFile = z.infer<typeof RequesterFile>;

const FILE = 'requester.json';

export function readRequester(dataDir: string): RequesterFile | null {
  const file = join(dataDir, FILE);
  return existsSync(file) ? RequesterFile.parse(JSON.parse(readFileSync(file, 'utf8'))) : null;
}

/** Whole or not at all: a wallet key that is half written takes its money along. */
export function saveRequester(dataDir: string, record: RequesterFile): void {
  const file = join(dataDir, FILE);
  writeFileSync(`${file}.new`, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
