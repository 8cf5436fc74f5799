import { join } from 'node:path';
import { leaveBook, type ExitPlan, type Left } from '@freehold/market';
import { ExitClient, ExitWallet, NoGasError, stepInWords, WrongChainError } from '@freehold/wiring/node';
import { writeDurably } from '../durable-files.ts';
import { noteSettled } from '../settled-file.ts';
import { BookExit, claimantsOf, vouchersThatCount, type Claimant } from './book-exit.ts';
import { keyOfFile } from './key-of-file.ts';
import { planJson, planLines } from './print-plan.ts';
import { receiptsIn } from './receipt-files.ts';
import { relayRequest } from './relay.ts';
import { rpcUrlOf } from './rpc-url.ts';

export interface CashoutOptions {
  readonly data: string;
  readonly rpc?: string;
  readonly key?: string;
  readonly book?: string;
  readonly dryRun: boolean;
  readonly json: boolean;
  readonly relayer?: string;
  readonly relayFee?: string;
  readonly relayFile?: string;
}

/** Everything is paid; something is left that this run could not do; something has to pass first. */
const EXIT = { done: 0, refused: 1, waits: 3 } as const;
type Outcome = keyof typeof EXIT;

interface Settled {
  readonly outcome: Outcome;
  readonly json: Record<string, unknown>;
}

/**
 * Pays the node out from its own files and an RPC endpoint: no coordinator, no database. Each run does what can be done now
 * and says what it waits for; it may be cut and run again at any time, because all it remembers is on the chain.
 */
export async function cashout(options: CashoutOptions, print: (line: string) => void): Promise<number> {
  const say = options.json ? (): void => undefined : print;
  const rpcUrl = rpcUrlOf(options);
  const privateKey = await keyOfFile(options.key ?? join(options.data, 'node.key'));
  const wallet = new ExitWallet({ rpcUrl, privateKey });
  const skipped: { where: string; why: string }[] = [];
  const claimants = claimantsOf(await receiptsIn(join(options.data, 'receipts')), (where, why) =>
    skipped.push({ where, why }),
  ).filter(({ book }) => options.book === undefined || book === options.book.toLowerCase());
  const books: Settled[] = [];
  for (const claimant of claimants) books.push(await settleOne(options, { rpcUrl, wallet, privateKey }, claimant, say));
  for (const { where, why } of skipped) say(`left out: ${where}: ${why}`);
  if (books.length === 0) say(`No voucher lies in ${join(options.data, 'receipts')}: nothing can be cashed.`);
  const worst =
    (['refused', 'waits'] as const).find((outcome) => books.some((book) => book.outcome === outcome)) ?? 'done';
  if (options.json)
    print(
      JSON.stringify({ wallet: wallet.address, done: worst === 'done', books: books.map(({ json }) => json), skipped }),
    );
  return EXIT[worst];
}

type Tools = { readonly rpcUrl: string; readonly wallet: ExitWallet; readonly privateKey: `0x${string}` };

async function settleOne(
  options: CashoutOptions,
  tools: Tools,
  claimant: Claimant,
  say: (line: string) => void,
): Promise<Settled> {
  const { chainId, escrow, book, payee } = claimant;
  const head = { chainId, escrow, book, payee, vouchers: claimant.vouchers.length };
  say(`Book ${book} of escrow ${escrow} on chain ${chainId}, payee ${payee}: ${head.vouchers} vouchers`);
  const client = new ExitClient({ rpcUrl: tools.rpcUrl, escrow, book });
  try {
    const { delegate } = await client.requireChain(chainId);
    const refusedVouchers: { voucher: string; why: string }[] = [];
    const vouchers = await vouchersThatCount(claimant, client, delegate, ({ epoch, order, total }, why) => {
      refusedVouchers.push({ voucher: `epoch ${epoch}, order ${order}, total ${total}`, why });
      say(`  left out: the voucher of epoch ${epoch}, order ${order}, total ${total}: ${why}`);
    });
    const door = new BookExit({ client, wallet: tools.wallet, payee, vouchers });
    const done = await leave(options, tools, { client, door, claimant }, say);
    return { outcome: done.outcome, json: { ...head, ...done.json, refusedVouchers } };
  } catch (error) {
    if (!(error instanceof WrongChainError) && !(error instanceof NoGasError)) throw error;
    say(`  refused: ${error.message}`);
    return { outcome: 'refused', json: { ...head, refused: { why: error.message } } };
  }
}

async function leave(
  options: CashoutOptions,
  tools: Tools,
  { client, door, claimant }: { client: ExitClient; door: BookExit; claimant: Claimant },
  say: (line: string) => void,
): Promise<Settled> {
  const plan = await door.plan();
  for (const line of planLines(plan, door.now)) say(line);
  if (options.dryRun) return { outcome: outcomeOf(plan), json: { ...planJson(plan), did: [] } };
  if (options.relayer !== undefined) return await handToRelayer(options, tools, { client, door, claimant }, plan, say);
  const left = await leaveBook(door, (step, hash) => say(`  did: ${stepInWords(step)} (${hash})`));
  const { book } = claimant;
  await noteSettled(
    options.data,
    Object.fromEntries([...door.settled].map(([epoch, sum]) => [`${book}/${epoch}`, sum])),
    (_event, { file, why, then }) => say(`  ${String(file)} was damaged (${String(why)}): ${String(then)}`),
  );
  if (left.refused !== null) say(`  refused: ${stepInWords(left.refused.step)}: ${left.refused.why}`);
  if (left.did.length > 0) for (const line of planLines(left.plan, door.now)) say(line);
  return { outcome: left.refused === null ? outcomeOf(left.plan) : 'refused', json: leftJson(left) };
}

async function handToRelayer(
  options: CashoutOptions,
  tools: Tools,
  exit: { client: ExitClient; door: BookExit; claimant: Claimant },
  plan: ExitPlan,
  say: (line: string) => void,
): Promise<Settled> {
  const request = await relayRequest({
    plan,
    client: exit.client,
    claimant: exit.claimant,
    privateKey: tools.privateKey,
    address: tools.wallet.address,
    relayer: options.relayer ?? '',
    fee: options.relayFee ?? '0',
    now: exit.door.now,
  });
  if (request === null) return { outcome: outcomeOf(plan), json: { ...planJson(plan), did: [] } };
  const file = options.relayFile ?? join(options.data, 'relay.json');
  await writeDurably(file, `${JSON.stringify(request, null, 2)}\n`);
  say(
    `  signed for relayer ${request.relayer}: ${file}. It sends "freehold node relay ${file} --key ITS-KEY --rpc URL".`,
  );
  return { outcome: 'waits', json: { ...planJson(plan), did: [], relay: file } };
}

function outcomeOf(plan: ExitPlan): Outcome {
  if (plan.steps.length > 0 || plan.waits.length > 0) return 'waits';
  return plan.lost.length > 0 ? 'refused' : 'done';
}

function leftJson(left: Left): Record<string, unknown> {
  return {
    ...planJson(left.plan),
    did: left.did.map(({ step, hash }) => ({ do: step.do, words: stepInWords(step), hash })),
    ...(left.refused === null ? {} : { refused: { step: stepInWords(left.refused.step), why: left.refused.why } }),
  };
}
