import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A small disk for tests, that may be filled. */
export interface TestDisk {
  readonly folder: string;
  /** Leaves so many bytes free. */
  fill(freeBytes: number): void;
  /** Gives back what {@link fill} took. */
  free(): void;
  remove(): void;
}

/** A disk in memory of so many MiB; null, with a line that says so, where none can be mounted. */
export function testDisk(sizeMib: number): TestDisk | null {
  const folder = mkdtempSync(join(tmpdir(), 'freehold-test-disk-'));
  const isRoot = process.getuid?.() === 0;
  const mounted = isRoot && spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMib}m`, 'tmpfs', folder]).status === 0;
  if (!mounted) {
    rmSync(folder, { recursive: true });
    process.stderr.write('skipped: needs root, to mount a small disk\n');
    return null;
  }
  const filler = join(folder, 'filler');
  const freeBytes = (): number => {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  };
  return {
    folder,
    fill: (leaveBytes) => writeFileSync(filler, Buffer.alloc(Math.max(0, freeBytes() - leaveBytes))),
    free: () => rmSync(filler, { force: true }),
    remove: () => {
      spawnSync('umount', ['--lazy', folder]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
