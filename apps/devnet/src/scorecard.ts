import type { FineTuneResult } from './main-job/fine-tune.ts';

/** What the main job measured; the JSON of `npm start -- --once --json`. Amounts are decimal strings of the smallest unit. */
export interface Scorecard {
  readonly batches: readonly {
    readonly id: string;
    readonly rowsIn: number;
    readonly succeeded: number;
    readonly failed: number;
    readonly duplicates: number;
  }[];
  readonly search?: { readonly recallAt5: number; readonly queries: number };
  readonly answers?: { readonly correct: number; readonly total: number };
  readonly fineTune?: FineTuneResult;
  readonly cheat: { readonly caughtRows: number; readonly badRowsDelivered: number; readonly paid: string };
  readonly flapper: { readonly deaths: number; readonly rowsRecovered: number };
  readonly charged: string;
  readonly cap: string;
  readonly audit: { readonly share: number; readonly upperBound95: number; readonly paid: string };
  readonly settlement: {
    readonly transactions: number;
    readonly gasPerRow: number;
    /** What the escrow holds on chain, and what the ledger says it holds. */
    readonly escrow: string;
    readonly ledger: string;
    readonly balanced: boolean;
  };
  readonly doctor: { readonly checks: number; readonly violations: number };
  readonly simulated: string;
  readonly seconds: number;
}

export const SIMULATED =
  'all nodes are processes of this one host with keys, payout addresses and operators of their own; the cheat and the flapper are simulations';

/** Least share of known-item queries whose document is among the first five. */
export const RECALL_AT_5_MIN = 0.5;
/** Least share of held-out questions answered as expected. */
export const ANSWERS_MIN = 0.9;
/** What a fine-tune of a quarter of a minute adds at least to the share of right answers. */
export const FINE_TUNE_GAIN_MIN = 0.2;

/** Every reason why the run does not hold; empty means exit code 0. */
export function scorecardFaults(
  card: Scorecard,
  expected: { readonly builtIn: boolean; readonly rowsIn: readonly number[] },
): string[] {
  const faults: string[] = [];
  const demand = (holds: boolean, fault: string): void => void (holds || faults.push(fault));
  demand(
    card.batches.length === expected.rowsIn.length,
    `${card.batches.length} of ${expected.rowsIn.length} batches finished`,
  );
  for (const [i, batch] of card.batches.entries()) {
    demand(
      batch.rowsIn === expected.rowsIn[i],
      `batch ${batch.id} took ${batch.rowsIn} of ${expected.rowsIn[i] ?? 0} rows`,
    );
    demand(
      batch.succeeded + batch.failed === batch.rowsIn,
      `batch ${batch.id} has ${batch.succeeded + batch.failed} records for ${batch.rowsIn} rows`,
    );
    demand(batch.duplicates === 0, `batch ${batch.id} has ${batch.duplicates} second records`);
    if (expected.builtIn) demand(batch.failed === 0, `batch ${batch.id}: ${batch.failed} rows failed`);
  }
  if (expected.builtIn) {
    demand(
      (card.search?.recallAt5 ?? 0) >= RECALL_AT_5_MIN,
      `recall@5 is ${card.search?.recallAt5 ?? 0}, wanted ${RECALL_AT_5_MIN}`,
    );
    demand(
      (card.answers?.correct ?? 0) >= ANSWERS_MIN * (card.answers?.total ?? 1),
      `${card.answers?.correct ?? 0} of ${card.answers?.total ?? 0} answers are right`,
    );
    faults.push(...fineTuneFaults(card.fineTune));
    demand(card.cheat.caughtRows > 0, 'the cheat was not caught');
    demand(card.flapper.deaths > 0, 'the flapper never died');
    demand(card.flapper.rowsRecovered > 0, 'no row of the flapper was recovered');
  }
  demand(card.cheat.badRowsDelivered === 0, `${card.cheat.badRowsDelivered} bad rows were delivered`);
  demand(card.cheat.paid === '0', `the cheat was paid ${card.cheat.paid}`);
  demand(BigInt(card.charged) <= BigInt(card.cap), `charged ${card.charged} of a cap of ${card.cap}`);
  demand(BigInt(card.charged) > 0n, 'nothing was charged');
  demand(card.settlement.transactions > 0, 'nothing was settled on chain');
  demand(
    card.settlement.balanced,
    `the chain holds ${card.settlement.escrow}, the ledger says ${card.settlement.ledger}`,
  );
  demand(card.doctor.violations === 0, `doctor found ${card.doctor.violations} violations`);
  demand(card.doctor.checks > 0, 'doctor checked nothing');
  return faults;
}

function fineTuneFaults(tune: Scorecard['fineTune']): string[] {
  if (tune === undefined) return ['nothing was fine-tuned'];
  const faults: string[] = [];
  if (tune.status !== 'succeeded') faults.push(`the fine-tune is ${tune.status}`);
  if (tune.resumed < 1) faults.push('no segment was resumed on another node');
  if (tune.audited < 1) faults.push('no segment was run again');
  if (tune.accuracyAfter < tune.accuracyBefore + FINE_TUNE_GAIN_MIN)
    faults.push(`the fine-tune went from ${tune.accuracyBefore} to ${tune.accuracyAfter} of held-out items`);
  return faults;
}

function fineTuneLines(tune: Scorecard['fineTune']): string[] {
  if (tune === undefined) return [];
  const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;
  return [
    `  fine-tune   ${tune.status}: ${percent(tune.accuracyBefore)} → ${percent(tune.accuracyAfter)} of held-out items right, as ${tune.model ?? 'nothing'}`,
    `              ${tune.segments} segments, ${tune.resumed} resumed elsewhere, ${tune.audited} run again; ${tune.trainedTokens} tokens for ${tune.charged} FDV in ${tune.seconds.toFixed(1)} s`,
  ];
}

/** The scorecard as a person reads it. */
export function renderScorecard(
  card: Scorecard,
  faults: readonly string[],
  money: (smallest: string) => string,
): string {
  const rows = card.batches.map(
    (b) => `  batch ${b.id}  ${b.rowsIn} rows: ${b.succeeded} succeeded, ${b.failed} failed, ${b.duplicates} twice`,
  );
  const lines = [
    '',
    'Scorecard',
    ...rows,
    ...(card.search === undefined
      ? []
      : [`  search      recall@5 ${card.search.recallAt5.toFixed(2)} over ${card.search.queries} known-item queries`]),
    ...(card.answers === undefined
      ? []
      : [`  answers     ${card.answers.correct} of ${card.answers.total} held-out questions right`]),
    ...fineTuneLines(card.fineTune),
    `  cheat       ${card.cheat.caughtRows} forged rows caught, ${card.cheat.badRowsDelivered} delivered, paid ${money(card.cheat.paid)}`,
    `  flapper     died ${card.flapper.deaths} times, ${card.flapper.rowsRecovered} of its rows recovered`,
    `  money       charged ${money(card.charged)} of a cap of ${money(card.cap)}`,
    `  audit       ${(card.audit.share * 100).toFixed(1)} % of rows run again; bad share of accepted rows below ${(card.audit.upperBound95 * 100).toFixed(2)} % (95 %); auditors earned ${money(card.audit.paid)}`,
    `  settlement  ${card.settlement.transactions} transactions, ${Math.round(card.settlement.gasPerRow)} gas per row; chain ${money(card.settlement.escrow)}, ledger ${money(card.settlement.ledger)}: ${card.settlement.balanced ? 'equal' : 'NOT EQUAL'}`,
    `  doctor      ${card.doctor.checks} checks, ${card.doctor.violations} violations`,
    `  simulated   ${card.simulated}`,
    `  time        ${card.seconds.toFixed(1)} s`,
    faults.length === 0
      ? '  Everything holds.'
      : `  DOES NOT HOLD:\n${faults.map((fault) => `    - ${fault}`).join('\n')}`,
  ];
  return lines.join('\n');
}
