import { blobName } from './object-desk.ts';
import { inputObject } from './ports/file-store.ts';
import type { FineTuneStore } from './ports/fine-tune-store.ts';
import type { LeaseStore } from './ports/lease-store.ts';
import type { ObjectStore } from './ports/object-store.ts';
import { segmentObject } from './segment-object.ts';

/** Inputs and outputs are kept this long after a job's end. */
export const RETENTION_MS = 30 * 24 * 3_600_000;
/** Leases looked at in one turn: some hundred removals take well below a second, and the next turn comes in a minute. */
export const SWEPT_MAX = 500;
/** Objects of fine-tunes removed in one turn: whoever needs another waits for these. */
const BLOBS_SWEPT_MAX = 100;

/**
 * Removes payloads that nobody needs any more: the delivered rows of leases, the inputs of streamed requests, and training
 * files, checkpoints and adapters of fine-tunes. Files have expiry dates of their own. What was removed is marked afterwards:
 * a crash in between removes it again, which is harmless.
 *
 * @returns how many leases and objects were swept.
 */
export async function sweepPayloads(
  ports: { readonly leases: LeaseStore; readonly fineTunes: FineTuneStore; readonly objects: ObjectStore },
  retentionMs: number = RETENTION_MS,
): Promise<number> {
  const due = await ports.leases.sweepable(retentionMs, SWEPT_MAX);
  for (const lease of due) {
    await ports.objects.remove(segmentObject(lease));
    if (lease.road === 'stream') await ports.objects.remove(inputObject(lease.jobId));
  }
  await ports.leases.markSwept(due);
  const blobs = await ports.fineTunes.sweepBlobs(retentionMs, BLOBS_SWEPT_MAX, (sha256) =>
    ports.objects.remove(blobName(sha256)),
  );
  return due.length + blobs;
}
