import { createHash } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { TrainerError } from '@freehold/market/trainer';
import type { WrittenFile } from '@freehold/protocol/trainer';

const NO_ROOM = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/**
 * Writes a file beside its place, to the disk, and renames it: a checkpoint is there whole or not at all.
 * @throws {TrainerError} `disk_full` when there is no room for it.
 */
export async function writeFileWhole(folder: string, name: string, bytes: Buffer): Promise<WrittenFile> {
  const path = join(folder, name);
  const part = `${path}.part`;
  try {
    const file = await open(part, 'w');
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(part, path);
  } catch (error) {
    await rm(part, { force: true });
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (!NO_ROOM.has(code)) throw error;
    const message = `No room for ${name} (${bytes.length} bytes) in ${folder}: free some and go on from the last checkpoint.`;
    throw new TrainerError('disk_full', message, true);
  }
  return { name, path, sha256: createHash('sha256').update(bytes).digest('hex'), bytes: bytes.length };
}
