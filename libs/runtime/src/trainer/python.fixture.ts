import { spawnSync } from 'node:child_process';

/** A Python that has all of these modules, or null with a line that says so: a test never fails for its absence. */
export function pythonWith(modules: readonly string[], named?: string): string | null {
  // Debian's comes before what else is on the path: its packages are those that apt-get brings.
  const candidates = named === undefined ? ['/usr/bin/python3', 'python3'] : [named];
  const found = candidates.find(
    (python) =>
      spawnSync(python, ['-c', `import ${modules.join(', ')}`], { stdio: 'ignore', timeout: 60_000 }).status === 0,
  );
  if (found === undefined) console.info(`skipped: no python3 with ${modules.join(', ')}`);
  return found ?? null;
}
