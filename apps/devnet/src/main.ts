import { setMaxListeners } from 'node:events';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import OpenAI from 'openai';
import { serviceUrls } from '@freehold/wiring/devnet';
import { endWithParent } from '@freehold/wiring/embedded';
import { faultText } from './faults.ts';
import { readFlags, type Flags } from './flags.ts';
import { House } from './house/house.ts';
import { InterruptedError } from './house/interrupted.ts';
import { checkBatchFiles, type BatchFile } from './main-job/batch-files.ts';
import { CAST } from './main-job/cast.ts';
import { runBuiltInJob, type JobContext } from './main-job/built-in-job.ts';
import { runFineTune, type FineTuneResult } from './main-job/fine-tune.ts';
import type { Run } from './main-job/finished-run.ts';
import { runGivenBatches } from './main-job/given-batches.ts';
import { Narrator } from './progress.ts';
import { measure, UnsettledError } from './measure.ts';
import { renderScorecard, scorecardFaults } from './scorecard.ts';

const HOME = fileURLToPath(new URL('../../..', import.meta.url));
const NODE_MODULES = join(HOME, 'node_modules');
/** The SDK's own patience with one request; batches are polled, so no request of the job takes longer. */
const REQUEST_TIMEOUT_MS = 60_000;
/** A 429 says when to ask again: where every slot is busy, a client that waits a quarter of a minute has its turn, on a slow machine too. */
const BUSY_RETRIES = 15;
const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Known once the flags are read; faults are explained with it. */
let dataDir = HOME;

type RunFlags = Flags & { readonly given: readonly BatchFile[] };

async function main(): Promise<void> {
  const flags = readFlags(process.argv.slice(2), HOME);
  dataDir = flags.dataDir;
  const batches = await checkBatchFiles(flags.batches);
  const narrator = new Narrator(flags.json);
  const house = await openHouse(flags, narrator);
  house.closeOnSignals();
  try {
    process.exitCode = await runMarket(house, { ...flags, given: batches }, narrator);
  } catch (error) {
    // Whoever interrupts the house ends the process as well; what fails meanwhile fails because of that.
    if (house.isInterrupted) return await new Promise<never>(() => undefined);
    await house.close();
    throw error;
  } finally {
    narrator.close();
  }
}

/** Ctrl-C is heard from the first moment: what was started so far is stopped again, whatever comes up just then. */
async function openHouse(flags: Flags, narrator: Narrator): Promise<House> {
  const interrupted = new AbortController();
  const onSignal = (signal: NodeJS.Signals): void => {
    if (!interrupted.signal.aborted) narrator.say('stopping');
    interrupted.abort(new InterruptedError(signal));
  };
  for (const signal of STOP_SIGNALS) process.on(signal, onSignal);
  endWithParent(() => onSignal('SIGHUP'));
  try {
    return await House.open({
      dataDir: flags.dataDir,
      httpPort: flags.port,
      fresh: flags.fresh,
      say: (text) => narrator.say(text),
      signal: interrupted.signal,
      ...serviceUrls(),
    });
  } catch (error) {
    // A tool of ours that Ctrl-C reached first fails before we hear of the signal.
    await new Promise((resolve) => setImmediate(resolve));
    throw interrupted.signal.aborted ? interrupted.signal.reason : error;
  } finally {
    for (const signal of STOP_SIGNALS) process.off(signal, onSignal);
  }
}

/** Coordinator, nodes, job, scorecard. Returns the exit code; without --once the market stays up behind it. */
async function runMarket(house: House, flags: RunFlags, narrator: Narrator): Promise<number> {
  const baseURL = await house.startCoordinator();
  narrator.say(`the API answers at ${baseURL}`);
  await startCast(house, narrator);
  if (flags.json)
    printJson({
      ready: true,
      baseURL,
      apiKey: house.requester.apiKey,
      rpcUrl: house.rpcUrl,
      databaseUrl: house.databaseUrl,
      contracts: house.chain,
      dataDir: house.dataDir,
    });
  const run = await runJob(house, flags, narrator, baseURL);
  narrator.say('every row has its terminal record; settling on chain');
  const exitCode = await showScorecard(house, run, flags, narrator);
  if (flags.once) {
    await house.close();
    narrator.say('stopped');
  } else {
    narrator.print(invitation(baseURL, house));
  }
  return exitCode;
}

/** @returns 0, or 1 where something does not hold. */
async function showScorecard(house: House, run: Run, flags: RunFlags, narrator: Narrator): Promise<number> {
  try {
    const card = await measure(house, run, narrator);
    const faults = scorecardFaults(card, { builtIn: flags.batches.length === 0, rowsIn: run.rowsIn });
    narrator.print(renderScorecard(card, faults, money));
    if (!flags.once) await house.fund();
    if (flags.json) printJson({ ...card, holds: faults.length === 0, faults });
    return faults.length === 0 ? 0 : 1;
  } catch (error) {
    // Batches of before a restart may wait for days: a market that stays up goes on with them.
    if (flags.once || !(error instanceof UnsettledError)) throw error;
    narrator.say(`no scorecard this time: ${error.message}`);
    return 0;
  }
}

async function startCast(house: House, narrator: Narrator): Promise<void> {
  // Two at a time: each node costs a second of CPU to start, and this may be a machine with two cores.
  for (let at = 0; at < CAST.length; at += 2)
    await Promise.all(CAST.slice(at, at + 2).map((spec) => house.startNode(spec)));
  narrator.say(`${CAST.length} nodes are up: ${CAST.map((spec) => spec.name).join(', ')}`);
}

async function runJob(house: House, flags: RunFlags, narrator: Narrator, baseURL: string): Promise<Run> {
  const context: JobContext = {
    client: new OpenAI({
      baseURL,
      apiKey: house.requester.apiKey,
      timeout: REQUEST_TIMEOUT_MS,
      maxRetries: BUSY_RETRIES,
    }),
    narrator,
    workDir: join(house.dataDir, 'work'),
    nodeModules: NODE_MODULES,
    signal: patientSignal(),
  };
  if (flags.given.length > 0) return { builtIn: null, ...(await runGivenBatches(context, flags.given)) };
  const builtIn = await runBuiltInJob(context);
  for (const shown of builtIn.search.shown)
    narrator.print(
      `  "${shown.query.slice(0, 70)}" → ${shown.rank <= 5 ? 'hit' : 'miss'}: ${shown.wanted} at rank ${shown.rank}${shown.rank === 1 ? '' : `, first ${shown.first}`}`,
    );
  const fineTune = await fineTuneWithDeath(house, context);
  return { builtIn, batches: builtIn.batches, rowsIn: builtIn.rowsIn, fineTune };
}

/** The node that dies in the middle is started again afterwards: the market stays what it was. */
async function fineTuneWithDeath(house: House, context: JobContext): Promise<FineTuneResult> {
  let killed: string | null = null;
  const kill = (nodeId: string): string | null => {
    const node = [...house.nodes.values()].find((running) => running.nodeId === nodeId);
    if (node === undefined) return null;
    if (!node.child.signal('SIGKILL')) return null;
    killed = node.name;
    return killed;
  };
  const result = await runFineTune({ ...context, kill });
  const spec = CAST.find(({ name }) => name === killed);
  if (spec !== undefined) await house.startNode(spec);
  return result;
}

/** Ctrl-C ends the process, so the job's signal never fires; every poll and request listens to it all the same. */
function patientSignal(): AbortSignal {
  const { signal } = new AbortController();
  setMaxListeners(0, signal);
  return signal;
}

const SMALLEST_PER_TOKEN = 1_000_000n;

/** The devnet token has six decimals. */
function money(smallest: string): string {
  const value = BigInt(smallest);
  return `${value / SMALLEST_PER_TOKEN}.${String(value % SMALLEST_PER_TOKEN).padStart(6, '0')} FDV`;
}

function invitation(baseURL: string, house: House): string {
  return `
The market stays up. Try it:

  curl ${baseURL}/chat/completions -H 'authorization: Bearer ${house.requester.apiKey}' \\
    -H 'content-type: application/json' -d '{"model":"freehold-tiny","messages":[{"role":"user","content":"What is 12 plus 30?"}]}'

  npm run doctor                 proves the books while it runs
  npx freehold node up --coordinator ${house.p2p[0] ?? ''} --engine …
                                 joins a GPU to it (docs/operating/node.md)
  logs and data: ${house.dataDir}
  Ctrl-C stops everything.
`;
}

function printJson(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

main().catch((error: unknown) => {
  if (error instanceof InterruptedError) process.exit(error.exitCode);
  process.stderr.write(`\nFAILED: ${faultText(error, dataDir)}\n`);
  process.exit(1);
});
