// The contracts' tests: unit, fuzz (256 runs) and invariants (256 runs × 128 calls). Part of `npm test`.
import { forge } from './forge.mjs';

const HELP = `node contracts/scripts/test.mjs [forge test options]
  runs every test but the gas measurement; e.g. --match-test test_a_posting, --fuzz-seed 7`;

const args = process.argv.slice(2);
if (args.includes('--help')) {
  process.stdout.write(`${HELP}\n`);
} else {
  const started = Date.now();
  const { status } = forge(['test', '--no-match-contract', 'GasTest', ...args]);
  process.stdout.write(
    `contracts: ${status === 0 ? 'passed' : 'FAILED'} in ${Math.round((Date.now() - started) / 1000)} s\n`,
  );
  process.exitCode = status;
}
