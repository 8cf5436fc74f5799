import { createHash } from 'node:crypto';
import { feeOf, isJobFinal } from '@freehold/domain';
import { fileObject } from '@freehold/market';
import { canonicalJson, gangOf, leaseKey, type Work } from '@freehold/protocol';
import { rightAnswer, unitsOf } from './row-truth.ts';
import type { JobRowRow, MemoryDatabase, ReceiptRow } from './memory/database.ts';
import { FEE_BPS, OPERATOR_DEPOSIT, type SimWorld } from './sim-world.ts';

type Finding = readonly [check: string, what: string];

/** Every move of a task that its table in WORDS allows, written out: the table of the domain is one of the things under test. */
const LEGAL_MOVES = new Set([
  ...['> queued', '> leased', 'queued > leased', 'queued > cancelled', 'queued > expired', 'queued > failed'],
  ...['leased > running', 'leased > delivered', 'leased > queued', 'leased > cancelled', 'leased > expired'],
  ...['running > delivered', 'running > queued', 'running > cancelled', 'running > expired'],
  ...['delivered > accepted', 'delivered > queued', 'delivered > cancelled', 'delivered > expired'],
]);

/** The doctor's rules over a run that is over: what was promised of work and money, each as a sentence that was broken. */
export async function examine(world: SimWorld, isDone: boolean): Promise<string[]> {
  const found: Finding[] = [];
  if (!isDone) found.push(['everything-ends', stillOpen(world)]);
  for (const error of world.errors) found.push(['no-surprise', error]);
  found.push(...work(world.db), ...receipts(world.db), ...ledgerSums(world.db), ...vouchers(world.db));
  found.push(...escrowIsLedger(world), ...(isDone ? paidExactly(world) : []));
  for (const { id, state } of world.db.jobs.all()) if (isJobFinal(state)) found.push(...(await outputFiles(world, id)));
  return found.map(([check, what]) => `${check}: ${what}`);
}

function stillOpen({ db, chain, requesters }: SimWorld): string {
  const jobs = db.jobs.where(({ state }) => !isJobFinal(state)).map(({ id, state }) => `${id.slice(0, 12)} ${state}`);
  const undone = db.outbox.where(({ doneMs }) => doneMs === null).map(({ topic }) => topic);
  const { stage, next, orders } = chain.head.state;
  const lanes = [...orders].map(([order, { reserved }]) => `${order}:${reserved}`).join(' ');
  const unserved = requesters.filter(({ isServed }) => !isServed).length;
  return `jobs [${jobs.join(', ')}], messages [${undone.join(', ')}], requesters without an answer ${unserved}, book ${stage} at ${next}, lanes ${lanes}`;
}

function* work(db: MemoryDatabase): Generator<Finding> {
  for (const { task, from, to } of db.taskEvents.all())
    if (!LEGAL_MOVES.has(`${from === null ? '' : `${from} `}> ${to}`))
      yield ['legal-moves', `task ${task} went from ${from ?? 'nothing'} to ${to}`];
  for (const job of db.jobs.all()) {
    const rows = db.rows.where((row) => row.jobId === job.id);
    const count = (...states: string[]): number => rows.filter(({ state }) => states.includes(state)).length;
    const counted = [job.rowsSucceeded, job.rowsFailed, job.rowsEnded].join('/');
    const are = [count('succeeded'), count('failed'), count('expired', 'cancelled')].join('/');
    if (counted !== are) yield ['row-counters', `job ${job.id} counts ${counted}, its rows say ${are}`];
    const gang = gangOf(job.metadata) ?? 1;
    const leases = db.leases.where(({ jobId }) => jobId === job.id);
    const beganMs = Math.min(...leases.map(({ grantedMs }) => grantedMs));
    const first = new Set(leases.filter(({ grantedMs }) => grantedMs === beganMs).map(({ nodeId }) => nodeId));
    if (leases.length > 0 && first.size < gang)
      yield ['begins-at-once', `job ${job.id} began on ${first.size} of ${gang} nodes`];
    if (isJobFinal(job.state) && count('pending') > 0)
      yield ['one-end-per-row', `job ${job.id} is ${job.state} with ${count('pending')} rows open`];
    if (isJobFinal(job.state) && job.model !== null && rows.length !== job.rowCount)
      yield ['one-end-per-row', `job ${job.id} has ${rows.length} of ${job.rowCount} rows`];
  }
  for (const { jobId, rowNo, result } of db.rows.all()) {
    if (result === null) continue;
    const lease = db.leases.get(leaseKey(result));
    const task = db.tasks.must(result.task);
    if (lease?.outcome !== 'accepted' || rowNo < task.rowFrom || rowNo >= task.rowTo)
      yield ['row-under-its-lease', `row ${rowNo} of ${jobId} has its result from ${result.task}.${result.epoch}`];
  }
}

function* receipts(db: MemoryDatabase): Generator<Finding> {
  for (const receipt of db.receipts.all()) {
    yield* receiptFaults(db, receipt);
    yield* chargeFaults(db, receipt);
  }
  for (const task of db.tasks.where(({ state }) => state === 'accepted'))
    if (db.receipts.get(task.id) === undefined)
      yield ['accepted-is-paid', `task ${task.id} is accepted without a receipt`];
  for (const job of db.jobs.all()) {
    const own = db.receipts.where(({ jobId }) => jobId === job.id);
    const sum = own.reduce((all, { charge }) => all + charge, 0n);
    if (sum !== job.charged || sum > (job.cap ?? 0n))
      yield [
        'bill-within-cap',
        `job ${job.id} was charged ${job.charged} of ${job.cap ?? 0n}, its receipts say ${sum}`,
      ];
    const ranges = own.map(({ task }) => db.tasks.must(task)).sort((a, b) => a.rowFrom - b.rowFrom);
    for (const [i, { rowFrom }] of ranges.entries())
      if (rowFrom < (ranges[i - 1]?.rowTo ?? 0))
        yield ['paid-once', `two receipts of job ${job.id} share row ${rowFrom}`];
    const hold = db.accounts.get(`hold ${job.id}`)?.balance ?? 0n;
    if (isJobFinal(job.state) && hold !== 0n)
      yield ['hold-released', `job ${job.id} is ${job.state} and holds ${hold}`];
  }
}

function* receiptFaults(db: MemoryDatabase, receipt: ReceiptRow): Generator<Finding> {
  const { task, epoch, root, audited } = receipt;
  const lease = db.leases.must(leaseKey({ task, epoch }));
  const { epoch: won, state } = db.tasks.must(task);
  if (won !== epoch || state !== 'accepted' || lease.outcome !== 'accepted' || lease.checkpointRoot !== root)
    yield ['receipt-of-the-winner', `receipt ${task} is for epoch ${epoch}; the task is ${state} in epoch ${won}`];
  const signer = `0x${lease.checkpointSignature?.slice(2, 42) ?? ''}`;
  if (signer !== db.nodes.must(receipt.nodeId).address)
    yield ['signed-by-its-node', `receipt ${task} pays ${receipt.nodeId} for rows that ${signer} signed`];
  const findings = db.audits.where((finding) => finding.task === task && finding.epoch === epoch);
  const rows = new Set(findings.map(({ rowNo }) => rowNo));
  if (db.jobs.must(receipt.jobId).verify !== 'off' && lease.drawRows === null)
    yield ['paid-after-verdict', `task ${task} was paid without a draw`];
  if (audited > rows.size)
    yield ['paid-after-verdict', `task ${task} claims ${audited} audited rows, ${rows.size} were`];
  for (const rowNo of rows) {
    const said = findings.filter((finding) => finding.rowNo === rowNo);
    const own = said.find(({ auditorKind, verdict }) => auditorKind === 'coordinator' && verdict !== 'unsure');
    const of = (verdict: string): number => said.filter((finding) => finding.verdict === verdict).length;
    if (own === undefined ? of('bad') > of('good') : own.verdict === 'bad')
      yield ['paid-after-verdict', `task ${task} was paid with row ${rowNo} found bad`];
  }
  if (audited > 0 || lease.drawRows === null) return;
  const deliveredMs = db.taskEvents.where((event) => event.task === task && event.to === 'delivered').at(-1)?.atMs ?? 0;
  const others = db.nodes.where(
    ({ id, payout, firstSeenMs }) => id !== receipt.nodeId && payout !== receipt.payout && firstSeenMs < deliveredMs,
  );
  if (others.length > 0 && lease.drawRows.length > 0)
    yield [
      'paid-after-verdict',
      `task ${task} was paid though nobody looked at its ${lease.drawRows.length} drawn rows`,
    ];
}

function* chargeFaults(
  db: MemoryDatabase,
  { task, jobId, payout, charge, fee, usage, nodeId, epoch }: ReceiptRow,
): Generator<Finding> {
  const { rates } = db.leases.must(leaseKey({ task, epoch }));
  const micro = (usage.embeddingToken ?? 0n) * (rates.embeddingToken ?? 0n);
  const due = micro > 0n && micro < 1_000_000n ? 1n : micro / 1_000_000n;
  if (charge > due) yield ['one-rounding', `task ${task} costs ${charge} where its units at its rates are ${due}`];
  if (fee !== feeOfHand(charge) || fee !== feeOf(charge, FEE_BPS))
    yield ['fee-of-the-charge', `task ${task} of ${charge} pays a fee of ${fee}`];
  const entry = db.entries.get(`charge ${task}`);
  if (charge === 0n) return;
  const to = (kind: string, owner: string): bigint =>
    (entry?.postings ?? [])
      .filter((p) => p.kind === kind && p.owner === owner)
      .reduce((sum, { amount }) => sum + amount, 0n);
  if (to('hold', jobId) !== -charge || to('provider', payout) !== charge - fee || to('fees', 'coordinator') !== fee)
    yield [
      'pay-and-fee-are-the-bill',
      `charge ${task} of ${nodeId}: hold ${to('hold', jobId)}, provider ${to('provider', payout)}, fees ${to('fees', 'coordinator')}`,
    ];
}

function feeOfHand(charge: bigint): bigint {
  return (charge * BigInt(FEE_BPS)) / 10_000n;
}

function* ledgerSums(db: MemoryDatabase): Generator<Finding> {
  const sums = new Map<string, bigint>();
  for (const { kind, ref, postings } of db.entries.all()) {
    const sum = postings.reduce((all, { amount }) => all + amount, 0n);
    if (sum !== 0n) yield ['zero-sum', `${kind} ${ref} is off by ${sum}`];
    for (const posting of postings) {
      const key = `${posting.kind} ${posting.owner}`;
      sums.set(key, (sums.get(key) ?? 0n) + posting.amount);
    }
  }
  let all = 0n;
  for (const { kind, owner, balance } of db.accounts.all()) {
    all += balance;
    if (balance !== (sums.get(`${kind} ${owner}`) ?? 0n))
      yield ['balance-drift', `${kind} of ${owner} says ${balance}`];
    if (balance < 0n && kind !== 'escrow' && kind !== 'operator')
      yield ['never-negative', `${kind} of ${owner} is ${balance}`];
  }
  if (all !== 0n) yield ['zero-sum', `all accounts together hold ${all}`];
}

function* vouchers(db: MemoryDatabase): Generator<Finding> {
  const totals = new Map<string, bigint>();
  const seen = new Set<string>();
  for (const { task, epoch, payee, order, net, gross, cumulative, total, receipt } of db.vouchers.all()) {
    const [inAll, inOrder] = [`${epoch} ${payee}`, `${epoch} ${payee} ${order}`];
    totals.set(inAll, (totals.get(inAll) ?? 0n) + net);
    totals.set(inOrder, (totals.get(inOrder) ?? 0n) + net);
    if (total !== totals.get(inAll) || cumulative !== totals.get(inOrder))
      yield [
        'voucher-total',
        `voucher ${task}: cumulative ${cumulative} instead of ${totals.get(inOrder)}, total ${total} instead of ${totals.get(inAll)}`,
      ];
    if (receipt !== null && seen.has(receipt)) yield ['voucher-total', `receipt ${receipt} stands in two vouchers`];
    if (receipt !== null) seen.add(receipt);
    const paid = db.receipts.get(task);
    if (paid !== undefined && (paid.charge !== gross || paid.charge - paid.fee !== net))
      yield ['voucher-total', `voucher ${task} says ${net} of ${gross}`];
  }
}

/** What the escrow holds at the block the ledger stands at, to the unit. */
function* escrowIsLedger({ db, chain }: SimWorld): Generator<Finding> {
  const at = db.chainBlocks.all().sort((a, b) => (a.number > b.number ? -1 : 1))[0];
  const block = at === undefined ? undefined : chain.block(at.number);
  if (at === undefined || block?.hash !== at.hash) return;
  const { orders, balances, bond } = block.state;
  const lanes = [...orders.values()].reduce((sum, { reserved, free }) => sum + reserved + free, 0n);
  const held = lanes + [...balances.values()].reduce((sum, balance) => sum + balance, 0n) + bond;
  const booked = -(db.accounts.get('escrow chain')?.balance ?? 0n);
  if (held !== booked)
    yield ['escrow-is-ledger', `at block ${at.number} the escrow holds ${held}, the ledger says ${booked}`];
}

/** When all is paid out: every payee has the sum of its vouchers, every payer its deposit less what was charged to its order. */
function* paidExactly({ db, chain, requesters, operatorPayer }: SimWorld): Generator<Finding> {
  const { paidOut, orders } = chain.head.state;
  const owed = new Map<string, bigint>();
  for (const { payee, net } of db.vouchers.all()) owed.set(payee, (owed.get(payee) ?? 0n) + net);
  for (const [payee, net] of owed)
    if (net !== (paidOut.get(payee) ?? 0n))
      yield ['paid-to-the-unit', `payee ${payee} holds vouchers over ${net} and was paid ${paidOut.get(payee) ?? 0n}`];
  const deposits = new Map(
    requesters.filter(({ isSelfCustody }) => isSelfCustody).map(({ wallet, deposit }) => [wallet, deposit]),
  );
  deposits.set(operatorPayer, OPERATOR_DEPOSIT);
  for (const [order, { payer }] of orders) {
    const spent = db.vouchers.where((voucher) => voucher.order === order).reduce((sum, { gross }) => sum + gross, 0n);
    const expected = (deposits.get(payer) ?? 0n) - spent;
    if ((paidOut.get(payer) ?? 0n) !== expected)
      yield ['refund-to-the-unit', `payer ${payer} got ${paidOut.get(payer) ?? 0n} back instead of ${expected}`];
  }
}

async function outputFiles({ db, objects }: SimWorld, jobId: string): Promise<Finding[]> {
  const job = db.jobs.must(jobId);
  const rows = db.rows.where((row) => row.jobId === jobId).sort((a, b) => a.rowNo - b.rowNo);
  const lines = async (fileId: string | null): Promise<string[]> => {
    if (fileId === null) return [];
    const parts: Uint8Array[] = [];
    for await (const part of objects.read(fileObject(fileId))) parts.push(part);
    return Buffer.concat(parts)
      .toString()
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { custom_id: string }).custom_id);
  };
  const want = (isOutput: boolean): string =>
    rows
      .filter(({ state }) => (state === 'succeeded') === isOutput)
      .map(({ customId }) => customId)
      .join();
  const found: Finding[] = [];
  if ((await lines(job.outputFileId)).join() !== want(true))
    found.push(['files-in-order', `the output of ${jobId} is not its succeeded rows in order`]);
  if ((await lines(job.errorFileId)).join() !== want(false))
    found.push(['files-in-order', `the errors of ${jobId} are not its other rows in order`]);
  return found;
}

/** Rows that a requester got and that nobody honest would have given. */
export async function wrongRowsDelivered(world: SimWorld): Promise<number> {
  let wrong = 0;
  for (const row of world.db.rows.where(({ state, result }) => state === 'succeeded' && result !== null))
    if ((await rightUnits(world, row)) === null) wrong += 1;
  return wrong;
}

/** The units of a delivered row; null when its answer is not the model's. */
export async function rightUnits({ db, objects }: SimWorld, row: JobRowRow): Promise<number | null> {
  const { result, jobId } = row;
  const segment = result === null ? '' : `segments/${result.task}.${result.epoch}`;
  if (result === null || (await objects.size(segment)) === null) return null;
  const [piece] = await objects.readPieces(segment, [result]);
  const [line] = await objects.readPieces(fileObject(db.jobs.must(jobId).inputFileId), [row]);
  const text = (JSON.parse(Buffer.from(line ?? []).toString()) as { body: { input: string } }).body.input;
  const work: Work = { kind: 'embedding', inputs: [text] };
  return Buffer.from(piece ?? []).toString() === JSON.stringify(rightAnswer(work)) ? unitsOf(work) : null;
}

/** One number for everything that was booked, in its order. */
export function ledgerHash(db: MemoryDatabase): string {
  const hash = createHash('sha256');
  for (const { kind, ref, postings } of db.entries.all()) hash.update(canonicalJson([kind, ref, postings]));
  for (const { id, state, charged } of db.jobs.all()) hash.update(canonicalJson([id, state, charged]));
  return hash.digest('hex');
}
