import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { upperBound } from '@freehold/domain';
import {
  auditFacts,
  examine,
  jobMoney,
  nodeFacts,
  openWork,
  reachMarket,
  rowsAnswered,
  rowsDeliveredBy,
  type ReachedMarket,
} from '@freehold/wiring/operator';
import type { House } from './house/house.ts';
import type { Run } from './main-job/finished-run.ts';
import type { Narrator } from './progress.ts';
import { SIMULATED, type Scorecard } from './scorecard.ts';
import { forgedAmong } from './main-job/forged.ts';

/** Vouchers are signed moments after acceptance, audits of streamed requests take a block. */
const SETTLE_LIMIT_MS = 45_000;
const SAY_AFTER_MS = 10_000;
const POLL_MS = 250;

/** Everything the scorecard says, read back from where it is true: the database, the chain, the nodes' own folders. */
export async function measure(house: House, run: Run, narrator: Narrator): Promise<Scorecard> {
  const market = await reachMarket(house.dataDir, { DATABASE_URL: house.databaseUrl });
  try {
    await untilSettled(market, narrator);
    const settlement = await house.settle((text) => narrator.say(text));
    const audit = await auditFacts(market.database);
    const money = await jobMoney(market.database);
    const doctor = await examine(market);
    for (const violation of doctor.violations) narrator.say(`doctor: ${violation.check}: ${violation.what}`);
    return {
      batches: run.batches.map(({ id, rowsIn, succeeded, failed, duplicates }) => ({
        id,
        rowsIn,
        succeeded,
        failed,
        duplicates,
      })),
      ...(run.builtIn === null
        ? {}
        : {
            search: { recallAt5: run.builtIn.search.recallAt5, queries: run.builtIn.search.queries },
            answers: run.builtIn.answers,
          }),
      ...(run.fineTune === undefined ? {} : { fineTune: run.fineTune }),
      cheat: await cheatFacts(house, market, run),
      flapper: await flapperFacts(house, market),
      charged: money.charged,
      cap: money.cap,
      audit: {
        share: audit.rowsAccepted === 0 ? 0 : audit.rowsAudited / audit.rowsAccepted,
        upperBound95: upperBound(0, audit.rowsAudited),
        paid: audit.paid,
      },
      settlement: { ...settlement, gasPerRow: audit.rowsAccepted === 0 ? 0 : settlement.gas / audit.rowsAccepted },
      doctor: { checks: doctor.checks, violations: doctor.violations.length },
      simulated: SIMULATED,
      seconds: Number(narrator.seconds.toFixed(1)),
    };
  } finally {
    await market.close();
  }
}

/** Jobs are open that this run did not begin, or that do not end: they cannot be settled, and go on. */
export class UnsettledError extends Error {}

async function untilSettled(market: ReachedMarket, narrator: Narrator): Promise<void> {
  const from = performance.now();
  let isSaid = false;
  for (;;) {
    const open = await openWork(market.database);
    if (open.jobs === 0 && open.tasks === 0 && open.vouchersUnsigned === 0) return;
    const jobs = `${open.oldest.join(', ')}${open.jobs > open.oldest.length ? ` and ${open.jobs - open.oldest.length} more` : ''}`;
    const whose = `jobs: ${jobs || 'none'}; tasks: ${open.tasks}; unsigned vouchers: ${open.vouchersUnsigned}`;
    const waitedMs = performance.now() - from;
    if (waitedMs > SETTLE_LIMIT_MS) {
      const late = `not settled after ${SETTLE_LIMIT_MS / 1_000} s, still open: ${whose}.`;
      // What no open job explains is a fault of ours.
      if (open.jobs === 0) throw new Error(late);
      throw new UnsettledError(
        `${late} "npx freehold why JOB" says what each waits for; one that is cancelled, or at its deadline, holds up nothing.`,
      );
    }
    if (!isSaid && waitedMs > SAY_AFTER_MS) narrator.say(`waits for what is still open (${whose})`);
    isSaid ||= waitedMs > SAY_AFTER_MS;
    await sleep(POLL_MS);
  }
}

async function cheatFacts(house: House, market: ReachedMarket, run: Run): Promise<Scorecard['cheat']> {
  const cheat = house.nodes.get('cheat');
  if (cheat === undefined) return { caughtRows: 0, badRowsDelivered: 0, paid: '0' };
  const facts = await nodeFacts(market.database, cheat.nodeId);
  const delivered = await rowsDeliveredBy(market.database, cheat.nodeId);
  return { caughtRows: facts.badRows, badRowsDelivered: await forgedAmong(delivered, run), paid: facts.earned };
}

/** The flapper writes down each lease it died in; their rows must have found their way all the same. */
async function flapperFacts(house: House, market: ReachedMarket): Promise<Scorecard['flapper']> {
  const flapper = house.nodes.get('flapper');
  if (flapper === undefined) return { deaths: 0, rowsRecovered: 0 };
  const file = join(flapper.dataDir, 'flapper-deaths');
  const leases = existsSync(file)
    ? readFileSync(file, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
    : [];
  const tasks = leases.map((lease) => lease.slice(0, 36));
  return { deaths: leases.length, rowsRecovered: await rowsAnswered(market.database, tasks) };
}
