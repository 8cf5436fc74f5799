import type { Listed, Once, Page, RequestIdentity } from './once.ts';

export interface FileRecord {
  readonly id: string;
  readonly orgId: string;
  readonly purpose: string;
  readonly filename: string;
  readonly bytes: number;
  readonly createdAtMs: number;
  readonly expiresAtMs: number | null;
}

export interface NewFile {
  readonly id: string;
  readonly orgId: string;
  readonly purpose: string;
  readonly filename: string;
  readonly bytes: number;
  readonly sha256: Uint8Array;
  readonly expiresInMs: number | null;
}

/** What is known of files; their bytes lie in the ObjectStore under {@link fileObject}. Expired files are gone. */
export abstract class FileStore {
  abstract insert(file: NewFile, identity: RequestIdentity | null): Promise<Once<FileRecord>>;
  abstract get(orgId: string, fileId: string): Promise<FileRecord | null>;
  /** What an organisation's files hold together. */
  abstract storedBytes(orgId: string): Promise<number>;
  /** Null when `after` is not one of the organisation's files. */
  abstract list(orgId: string, page: Page, purpose: string | null): Promise<Listed<FileRecord> | null>;
  /** `in-use`: a batch that is not over still reads it. */
  abstract remove(orgId: string, fileId: string): Promise<'removed' | 'not-found' | 'in-use'>;
  /** Marks files past their expiry as deleted and names them, for the removal of their bytes. */
  abstract expire(limit: number): Promise<readonly string[]>;
}

export function fileObject(fileId: string): string {
  return `files/${fileId}`;
}
/** The one line of a request of the stream road. */
export function inputObject(jobId: string): string {
  return `inputs/${jobId}`;
}
