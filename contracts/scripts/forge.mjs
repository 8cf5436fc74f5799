// Runs forge over this repository: from its root, with contracts/foundry.toml, offline. One place knows the paths.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const CONTRACTS = join(dirname(fileURLToPath(import.meta.url)), '..');
export const ROOT = join(CONTRACTS, '..');

/** The binary inside npm's platform package: going past npm's launcher lets signals and exit codes through. */
export function forgePath() {
  const require = createRequire(import.meta.url);
  const name = `@foundry-rs/forge-${process.platform}-${process.arch === 'x64' ? 'amd64' : process.arch}`;
  let folder;
  try {
    folder = dirname(require.resolve(`${name}/package.json`));
  } catch {
    throw new Error(`forge: package ${name} is not installed. Run npm install on linux-x64, darwin or linux-arm64.`);
  }
  const path = join(folder, 'bin', process.platform === 'win32' ? 'forge.exe' : 'forge');
  if (!existsSync(path)) throw new Error(`forge: expected a binary at ${path}. Run npm install again.`);
  return path;
}

/**
 * Runs one forge command to its end.
 *
 * @param {string[]} args
 * @param {{ root?: string, quiet?: boolean, env?: Record<string, string>, timeoutMs?: number }} [options] `root` is another copy of the tree (the mutation gate works on copies).
 * @returns {{ status: number, output: string }}
 */
export function forge(args, { root = ROOT, quiet = false, env = {}, timeoutMs = 1_800_000 } = {}) {
  const run = spawnSync(forgePath(), [args[0], '--root', root, ...args.slice(1)], {
    cwd: root,
    env: {
      ...process.env,
      FOUNDRY_CONFIG: join(root, 'contracts', 'foundry.toml'),
      FOUNDRY_DISABLE_NIGHTLY_WARNING: '1',
      NO_COLOR: '1',
      ...env,
    },
    encoding: 'utf8',
    maxBuffer: 256 * 1024 * 1024,
    stdio: quiet ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'inherit', 'inherit'],
    timeout: timeoutMs,
  });
  if (run.error) throw run.error;
  return { status: run.status ?? 1, output: `${run.stdout ?? ''}${run.stderr ?? ''}` };
}
