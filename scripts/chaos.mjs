/** `npm run chaos`: breaks the house on purpose and counts what is lost. */
import { at } from './launcher/paths.mjs';
import { prepare } from './launcher/prepare.mjs';
import { runInOurPlace } from './launcher/run.mjs';

const HELP = `Kills, stops and starves the processes of a market under load, then asks doctor.

  npm run chaos -- --profile smoke     about a minute; part of "npm test"
  npm run chaos -- --profile ci        up to 12 minutes
  npm run chaos -- --profile soak      up to an hour
  npm run chaos -- --seed N            replays a run: each prints its seed
  npm run chaos -- --json              the result as JSON, on the last line`;

const args = process.argv.slice(2);
if (args.includes('--help') || args.includes('-h')) {
  console.log(HELP);
} else {
  await prepare('production');
  await runInOurPlace(at('test/chaos/run.mjs'), args);
}
