import type { FileRecord } from '@freehold/market';

export function fileBody(file: FileRecord): Record<string, unknown> {
  return {
    id: file.id,
    object: 'file',
    bytes: file.bytes,
    created_at: seconds(file.createdAtMs),
    ...(file.expiresAtMs === null ? {} : { expires_at: seconds(file.expiresAtMs) }),
    filename: file.filename,
    purpose: file.purpose,
    status: 'processed',
  };
}

export function seconds(ms: number): number {
  return Math.floor(ms / 1_000);
}
