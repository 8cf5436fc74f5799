/** `npm run doctor`: proves the books. A thin door to `freehold doctor`. */
import { at } from './launcher/paths.mjs';
import { prepare } from './launcher/prepare.mjs';
import { runInOurPlace } from './launcher/run.mjs';

const HELP = `Checks that no job is lost, nothing is billed twice and every unit of money is accounted for.
Prints "N checks, 0 violations" and exits 0, or names each violation and exits 1.

  npm run doctor                       the market that "npm start" keeps in .freehold
  npm run doctor -- --data DIR         another data folder
  npm run doctor -- --json             for programs
  DATABASE_URL=… npm run doctor        a market at volume`;

const args = process.argv.slice(2);
if (args.includes('--help') || args.includes('-h')) {
  console.log(HELP);
} else {
  await prepare('production');
  await runInOurPlace(at('apps/cli/dist/main.js'), ['doctor', ...args]);
}
