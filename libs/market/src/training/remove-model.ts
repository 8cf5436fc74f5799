import { blobName } from '../object-desk.ts';
import type { FineTuneStore } from '../ports/fine-tune-store.ts';
import type { ObjectStore } from '../ports/object-store.ts';

/**
 * Takes a fine-tuned model from its owner's shelf: its name at once, and the adapter's bytes where no other name is theirs.
 * Cut in between, the bytes stay: nobody reads them any more.
 */
export async function removeModel(
  ports: { readonly fineTunes: FineTuneStore; readonly objects: ObjectStore },
  orgId: string,
  name: string,
): Promise<'removed' | 'not-found'> {
  const removed = await ports.fineTunes.removeModel(orgId, name);
  if (removed === 'not-found') return removed;
  if (removed.orphan !== null) await ports.objects.remove(blobName(removed.orphan));
  return 'removed';
}
