import { addUsage, type Usage } from '@freehold/domain';
import { LINE_BYTES_MAX, parseBatchLine, worstUsage, type BatchEndpoint } from '@freehold/protocol';
import { inputLines } from './input-lines.ts';
import type { KnownModel } from './known-models.ts';
import { fileObject } from './ports/file-store.ts';
import type { ObjectStore } from './ports/object-store.ts';

/** So much of a file is read while its submitter waits: some thousand rows in about 50 ms. Of a longer one it is a lower bound. */
const READ_BYTES_MAX = 2 * 1_048_576;

/** What the beginning of an input file says. */
export interface Seen {
  readonly model: KnownModel;
  readonly worst: Usage;
  readonly rowsRead: number;
  readonly rows: number;
}

/** The worst case of the rows at the file's start; null when anything about them is not as it should be. */
export async function lookInto(
  objects: Pick<ObjectStore, 'size' | 'read'>,
  { fileId, endpoint }: { readonly fileId: string; readonly endpoint: BatchEndpoint },
  modelNamed: (name: string) => Promise<KnownModel | null>,
): Promise<Seen | null> {
  const size = await objects.size(fileObject(fileId));
  if (size === null || size === 0) return null;
  const isWhole = size <= READ_BYTES_MAX;
  const bytes = Math.min(size, READ_BYTES_MAX);
  let name: string | null = null;
  let model: KnownModel | null = null;
  let worst: Usage = {};
  let rows = 0;
  for await (const line of inputLines(objects.read(fileObject(fileId), { from: 0, to: bytes }), LINE_BYTES_MAX)) {
    // The last line of a part is a part of a line.
    if (!isWhole && line.offset + line.length >= bytes) break;
    const row = line.text === null ? null : parseBatchLine(line.text, endpoint);
    if (row === null || !row.ok) return null;
    if (name === null) {
      name = row.value.model;
      model = await modelNamed(name);
    }
    if (model === null || row.value.model !== name || model.kind !== row.value.work.kind) return null;
    worst = addUsage(worst, worstUsage(row.value.work, model.contextTokens));
    rows += 1;
  }
  return model === null ? null : { model, worst, rowsRead: rows, rows: Math.ceil((rows * size) / bytes) };
}
