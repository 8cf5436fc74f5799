import { join } from 'node:path';
import { z } from 'zod';
import { AmountText } from '@freehold/protocol';
import { writeDurably } from './durable-files.ts';
import { readForgettable, type DamageLog } from './kept-json.ts';

const Settled = z.record(z.string(), AmountText);
export type Settled = Readonly<Record<string, string>>;

const settledPath = (dataDir: string): string => join(dataDir, 'settled.json');

/**
 * What the chain has of each `<book>/<epoch>`: credited to this node's payout address, or cashed by voucher. The chain says it again:
 * without the file all that was promised counts as exposure until the next look there.
 */
export async function readSettled(dataDir: string, log: DamageLog): Promise<Settled> {
  return (await readForgettable(settledPath(dataDir), Settled, log)) ?? {};
}

/** What is on the chain no longer counts against `--exposure-max`. Returns whether anything is new. */
export async function noteSettled(dataDir: string, found: Settled, log: DamageLog): Promise<boolean> {
  const before = await readSettled(dataDir, log);
  if (Object.entries(found).every(([key, amount]) => before[key] === amount)) return false;
  await writeDurably(settledPath(dataDir), JSON.stringify({ ...before, ...found }));
  return true;
}
