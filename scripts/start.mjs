/** `npm start`: from a bare clone to a running market. Installs and builds what is missing, then starts apps/devnet. */
import { checkEmbeddedServices } from './launcher/machine.mjs';
import { at } from './launcher/paths.mjs';
import { prepare } from './launcher/prepare.mjs';
import { runInOurPlace } from './launcher/run.mjs';

const HELP = `Freehold: the whole market on this machine.

  npm start                          run the built-in job, print the scorecard, stay up
  npm start -- --once                the same, then stop; exit code 0 only if everything held
  npm start -- --once --batch FILE   OpenAI batch input instead of the built-in job (repeatable)
  npm start -- --json                stdout carries JSON lines only ("npm start --silent -- --json" hides npm's own banner)

  --once        stop after the job
  --json        machine-readable: first {"ready":true,…}, then the scorecard
  --batch FILE  a JSONL file as for POST /v1/batches; may be given several times
  --data DIR    where everything is kept (default: .freehold in the repository)
  --port N      of the API; 0 takes any free one
  --fresh       forget what --data holds first

Environment: DATABASE_URL, REDIS_URL, RPC_URL replace an embedded service each.
Installs (about 2 minutes, once) and builds by itself. Ctrl-C stops everything.`;

const args = process.argv.slice(2);
if (args.includes('--help') || args.includes('-h')) {
  console.log(HELP);
} else {
  checkEmbeddedServices(process.env);
  await prepare('production');
  await runInOurPlace(at('apps/devnet/dist/main.js'), args);
}
