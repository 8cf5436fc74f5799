// solhint over the sources and the tests; warnings count.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { CONTRACTS, ROOT } from './forge.mjs';

const require = createRequire(import.meta.url);
const solhint = join(dirname(require.resolve('solhint/package.json')), 'solhint.js');
const sets = [
  ['.solhint.json', 'contracts/src/**/*.sol'],
  ['.solhint.tests.json', 'contracts/test/**/*.sol'],
];
let failed = false;
for (const [config, files] of sets) {
  const run = spawnSync(
    process.execPath,
    [solhint, '--max-warnings', '0', '--noPoster', '--disc', '-c', join(CONTRACTS, config), files],
    { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] },
  );
  failed ||= run.status !== 0;
}
process.stdout.write(`solhint: ${failed ? 'FAILED' : 'clean'}\n`);
if (failed) process.exitCode = 1;
