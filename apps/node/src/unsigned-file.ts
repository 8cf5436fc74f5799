import { join } from 'node:path';
import { z } from 'zod';
import { UnsignedWork } from '@freehold/domain';
import { AmountText } from '@freehold/protocol';
import { writeDurably } from './durable-files.ts';
import { readGuarded } from './kept-json.ts';

const Leases = z.array(z.object({ task: z.string(), coordinator: z.string(), amount: AmountText, atMs: z.number() }));

const unsignedPath = (dataDir: string): string => join(dataDir, 'unsigned.json');

const REMEDY =
  'It says how much work coordinators have that they signed nothing for. Restore it from your copy, or move it away: then each may take up to --unsigned-max once more.';

/** What was delivered before this start and nobody signed for, as far as it is not in a journal. */
export async function readUnsigned(dataDir: string): Promise<UnsignedWork> {
  const leases = await readGuarded(unsignedPath(dataDir), Leases, REMEDY);
  return new UnsignedWork((leases ?? []).map((lease) => ({ ...lease, amount: BigInt(lease.amount) })));
}

export async function writeUnsigned(dataDir: string, work: UnsignedWork): Promise<void> {
  const leases = work.all.map((lease) => ({ ...lease, amount: String(lease.amount) }));
  await writeDurably(unsignedPath(dataDir), JSON.stringify(leases));
}
