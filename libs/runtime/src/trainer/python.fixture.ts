import { spawnSync } from 'node:child_process';

/** A Python that has all of these modules, or null with a line that says so: a test never fails for its absence. */
export function pythonWith(modules: readonly string[], named?: string): string | null {
  // Debian's comes before what else is on the path: its packages are those that apt-get brings.
  const candidates = named === undefined ? ['/usr/bin/python3', 'python3'] : [named];
  // By its full path: a child with another environment would find another one by that name.
  const script = `import sys, ${modules.join(', ')}; print(sys.executable)`;
  for (const python of candidates) {
    const tried = spawnSync(python, ['-c', script], { encoding: 'utf8', timeout: 60_000 });
    if (tried.status === 0) return tried.stdout.trim();
  }
  console.info(`skipped: no python3 with ${modules.join(', ')}`);
  return null;
}
