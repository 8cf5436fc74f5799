import { join } from 'node:path';
import { z } from 'zod';
import { AmountText } from '@freehold/protocol';
import { readIfThere, writeDurably } from './durable-files.ts';

const Settled = z.record(z.string(), AmountText);
export type Settled = Readonly<Record<string, string>>;

const settledPath = (dataDir: string): string => join(dataDir, 'settled.json');

/** What the chain has of each `<book>/<epoch>`: credited to this node's payout address, or cashed by voucher. */
export async function readSettled(dataDir: string): Promise<Settled> {
  return Settled.parse(JSON.parse((await readIfThere(settledPath(dataDir))) ?? '{}'));
}

/** What is on the chain no longer counts against `--exposure-max`. Returns whether anything is new. */
export async function noteSettled(dataDir: string, found: Settled): Promise<boolean> {
  const before = await readSettled(dataDir);
  if (Object.entries(found).every(([key, amount]) => before[key] === amount)) return false;
  await writeDurably(settledPath(dataDir), JSON.stringify({ ...before, ...found }));
  return true;
}
