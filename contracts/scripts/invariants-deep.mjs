// The invariants over 1,000 runs × 256 calls: too long for every test run, short enough for every release.
import { forge } from './forge.mjs';

const HELP = `node contracts/scripts/invariants-deep.mjs [--fuzz-seed N]
  1,000 × 256 calls against the invariants I0–I15`;

const args = process.argv.slice(2);
if (args.includes('--help')) {
  process.stdout.write(`${HELP}\n`);
} else {
  const started = Date.now();
  const { status } = forge(['test', '--match-test', 'invariant_', ...args], {
    env: { FOUNDRY_INVARIANT_RUNS: '1000', FOUNDRY_INVARIANT_DEPTH: '256' },
    timeoutMs: 7_200_000,
  });
  process.stdout.write(
    `invariants 1000 × 256: ${status === 0 ? 'hold' : 'BROKEN'} after ${Math.round((Date.now() - started) / 1000)} s\n`,
  );
  process.exitCode = status;
}
