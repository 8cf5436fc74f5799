import { ApiError, canonicalHash } from '@freehold/protocol';
import { fileObject, type FileRecord, type FileStore } from './ports/file-store.ts';
import { ObjectTooLarge, type ObjectStore } from './ports/object-store.ts';
import type { Entropy } from './ports/surroundings.ts';
import { toHex } from './hex.ts';
import { identityOf, keyReused, type RequestFacts } from './request-identity.ts';

/** OpenAI's limit for one file. */
export const FILE_BYTES_MAX = 512 * 1_048_576;
/** Per organisation, as OpenAI has it: no tenant fills the disk of all. Uploads that run side by side may pass it by their own size. */
export const ORG_BYTES_MAX = 100 * 1_073_741_824;
const ID_BYTES = 12;

export interface StoreFilePorts {
  readonly files: FileStore;
  readonly objects: ObjectStore;
  readonly entropy: Entropy;
}

export interface Upload {
  readonly orgId: string;
  readonly filename: string;
  readonly body: AsyncIterable<Uint8Array>;
  /** Form fields may follow the file, so they are known only when the body has ended. */
  readonly fields: () => { readonly purpose: string; readonly expiresInMs: number | null };
  readonly request: Omit<RequestFacts, 'bodyHash'>;
}

/** Streams an upload into the object store, then records it. A repeated upload is recognised by its content. */
export async function storeFile(ports: StoreFilePorts, upload: Upload): Promise<FileRecord> {
  if ((await ports.files.storedBytes(upload.orgId)) >= ORG_BYTES_MAX) throw storageLimit();
  const id = `file-${toHex(ports.entropy.bytes(ID_BYTES)).slice(2)}`;
  const stored = await put(ports.objects, fileObject(id), upload.body);
  try {
    const { purpose, expiresInMs } = upload.fields();
    const bodyHash = canonicalHash({ content: toHex(stored.sha256), purpose, filename: upload.filename });
    const identity = identityOf({ ...upload.request, bodyHash });
    const made = await ports.files.insert(
      {
        id,
        orgId: upload.orgId,
        purpose,
        filename: upload.filename,
        bytes: stored.bytes,
        sha256: stored.sha256,
        expiresInMs,
      },
      identity,
    );
    if (made.outcome === 'key-reused') throw keyReused();
    if (made.outcome === 'repeated') await ports.objects.remove(fileObject(id));
    return made.value;
  } catch (error) {
    // Nobody will ever know this id. (A commit whose outcome is unknown leaves bytes without a record or a record without
    // bytes: the second is worse, so bytes are removed only after an error that says the record is not there.)
    if (error instanceof ApiError) await ports.objects.remove(fileObject(id));
    throw error;
  }
}

async function put(
  objects: ObjectStore,
  name: string,
  body: AsyncIterable<Uint8Array>,
): Promise<{ bytes: number; sha256: Uint8Array }> {
  try {
    return await objects.put(name, body, FILE_BYTES_MAX);
  } catch (error) {
    if (!(error instanceof ObjectTooLarge)) throw error;
    throw new ApiError({
      status: 413,
      type: 'invalid_request_error',
      code: 'file_too_large',
      message: `The file is larger than ${FILE_BYTES_MAX} bytes: split it.`,
      param: 'file',
    });
  }
}

function storageLimit(): ApiError {
  return new ApiError({
    status: 403,
    type: 'insufficient_quota',
    code: 'storage_limit_reached',
    message: `The files of this organisation hold ${ORG_BYTES_MAX} bytes or more: delete some, or upload with expires_after.`,
    param: 'file',
  });
}
