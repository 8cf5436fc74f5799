/** A turn of a scheduler's lease clock in a process of its own, whose clock may be wrong. Prints one line of JSON. */
import { reapLeases } from '@freehold/market';
import { openDatabase, PgLeaseStore } from '@freehold/persistence';

const [, , url = ''] = process.argv;
const database = await openDatabase({ url });
const leases = new PgLeaseStore(database);
const { outageMs } = await leases.forgiveOutage(0);
const { lost, jobsEnded, poisoned } = await reapLeases({ leases, held: () => [], drop: () => undefined });
await database.close();
process.stdout.write(
  `${JSON.stringify({ nowMs: Date.now(), outageMs, lost, jobsEnded: jobsEnded.length, poisoned })}\n`,
);
