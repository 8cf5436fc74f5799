import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createKey, createOrg } from '@freehold/market';
import { migrate, openDatabase, PgAccountStore } from '@freehold/persistence';
import { SystemEntropy } from './coordinator/surroundings.ts';

export interface ChainRecord {
  readonly chainId: number;
  readonly token: string;
  readonly escrow: string;
  readonly book: string;
}
export interface RequesterRecord {
  readonly orgId: string;
  readonly apiKey: string;
}

export async function prepareDatabase(url: string): Promise<void> {
  const database = await openDatabase({ url, poolSize: 2, applicationName: 'freehold-migrate' });
  try {
    await migrate(database);
  } finally {
    await database.close();
  }
}

export function prepareChain(_options: { rpcUrl: string; dataDir: string }): Promise<ChainRecord> {
  return Promise.resolve({ chainId: 31_337, token: `0x${'00'.repeat(20)}`, escrow: `0x${'00'.repeat(20)}`, book: `0x${'00'.repeat(32)}` });
}

export async function prepareRequester(options: { databaseUrl: string; rpcUrl: string; dataDir: string; chain: ChainRecord }): Promise<RequesterRecord> {
  const file = join(options.dataDir, 'requester.json');
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as RequesterRecord;
  const database = await openDatabase({ url: options.databaseUrl, poolSize: 2, applicationName: 'freehold-devnet' });
  try {
    const ports = { accounts: new PgAccountStore(database), entropy: new SystemEntropy() };
    const { orgId } = await createOrg(ports, { name: `requester ${randomBytes(3).toString('hex')}`, credit: 1_000_000_000n });
    const { key } = await createKey(ports, { orgId });
    const record = { orgId, apiKey: key };
    writeFileSync(file, JSON.stringify(record), { mode: 0o600 });
    return record;
  } finally {
    await database.close();
  }
}
