import { spawnSync } from 'node:child_process';

/** Debian's Python comes first: its packages are those that apt-get brings. */
const CANDIDATES = ['/usr/bin/python3', 'python3'];

/** A Python that has all of these modules, or null with a line that says so: a test never fails for its absence. */
export function pythonWith(...modules: readonly string[]): string | null {
  const found = CANDIDATES.find(
    (python) =>
      spawnSync(python, ['-c', `import ${modules.join(', ')}`], { stdio: 'ignore', timeout: 60_000 }).status === 0,
  );
  if (found === undefined) console.info(`skipped: no python3 with ${modules.join(', ')}`);
  return found ?? null;
}
