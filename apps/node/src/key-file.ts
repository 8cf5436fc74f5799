import { createECDH } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FILE_MODE, readIfThere, syncFolder } from './durable-files.ts';

/**
 * The node's one secp256k1 key: it is the PeerId, the signer and, unless a payout address is set, the payee. Made at the
 * first start; whoever loses it loses what was earned under it and not yet paid out.
 */
export async function nodeKey(dataDir: string): Promise<string> {
  const path = keyPath(dataDir);
  const found = await readIfThere(path);
  if (found !== null) return await checked(path, found.trim());
  const ecdh = createECDH('secp256k1');
  ecdh.generateKeys();
  const key = ecdh.getPrivateKey('hex').padStart(64, '0');
  const file = await open(path, 'wx', FILE_MODE);
  try {
    await file.writeFile(`${key}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await syncFolder(dirname(path));
  return key;
}

/** Whether a node was ever started on this folder. */
export function hasNodeKey(dataDir: string): boolean {
  return existsSync(keyPath(dataDir));
}

function keyPath(dataDir: string): string {
  return join(dataDir, 'node.key');
}

async function checked(path: string, key: string): Promise<string> {
  if (!/^[0-9a-f]{64}$/.test(key))
    throw new Error(
      `${path} holds no key: expected 64 hexadecimal digits. Restore it from your copy, or move it away to start as a new node.`,
    );
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0)
    throw new Error(`${path} can be read by others (mode ${(mode & 0o777).toString(8)}): run chmod 600 on it.`);
  return key;
}
