import { ExitDoor, leaveBook, planRefund, type ExitPlan, type ExitStep } from '@freehold/market';
import { formatMoney } from '@freehold/protocol';
import { ExitClient, ExitWallet, NoGasError, stepInWords, WrongChainError } from '@freehold/wiring/node';
import { OptionError } from '../options.ts';
import { keyOfFile } from './key-of-file.ts';
import { planJson, planLines } from './print-plan.ts';
import { rpcUrlOf } from './rpc-url.ts';

export interface OrderOptions {
  readonly rpc?: string;
  readonly chain: string;
  readonly escrow: string;
  readonly book: string;
  readonly order: string;
  readonly key: string;
  readonly dryRun: boolean;
  readonly json: boolean;
}

/** One order of a book, for its owner. Whatever moves a book that its coordinator has left is part of the way out. */
class OrderExit extends ExitDoor {
  readonly #client: ExitClient;
  readonly #wallet: ExitWallet;
  readonly #index: number;
  now = 0n;

  constructor(client: ExitClient, wallet: ExitWallet, index: number) {
    super();
    this.#client = client;
    this.#wallet = wallet;
    this.#index = index;
  }

  override async plan(): Promise<ExitPlan> {
    const [book, order] = [await this.#client.bookFacts(), await this.#client.order(this.#index)];
    if (order === null) throw new WrongChainError(`Book ${this.#client.book} has no order ${this.#index}.`);
    this.now = book.now;
    return planRefund(book, {
      index: order.index,
      rest: order.reserved + order.free,
      closeEpoch: order.closeEpoch,
      isPayer: order.payer === this.#wallet.address,
    });
  }

  override async refusal(step: ExitStep): Promise<string | null> {
    await this.#wallet.settleEarlier();
    return await this.#wallet.refusal(await this.#client.callOf(step, this.#wallet.address));
  }

  override async perform(step: ExitStep): Promise<{ readonly hash: string }> {
    return await this.#wallet.send(await this.#client.callOf(step, this.#wallet.address));
  }
}

/** Closes an order and brings the rest of it home, over as many runs as the book's clock asks for. */
export async function refundOrder(options: OrderOptions, print: (line: string) => void): Promise<number> {
  const rpcUrl = rpcUrlOf(options);
  if (!/^\d{1,4}$/.test(options.order)) throw new OptionError(`--order ${options.order}: expected the order's index.`);
  const say = options.json ? (): void => undefined : print;
  const wallet = new ExitWallet({ rpcUrl, privateKey: await keyOfFile(options.key) });
  const client = new ExitClient({ rpcUrl, escrow: options.escrow, book: options.book.toLowerCase() });
  const door = new OrderExit(client, wallet, Number(options.order));
  try {
    await client.requireChain(Number(options.chain));
    const plan = await door.plan();
    say(`Order ${options.order} of book ${client.book}: ${formatMoney(plan.owed)} in its lanes`);
    for (const line of planLines(plan, door.now)) say(line);
    if (options.dryRun) {
      if (options.json) print(JSON.stringify({ order: Number(options.order), ...planJson(plan), did: [] }));
      return plan.owed === 0n ? 0 : 3;
    }
    const left = await leaveBook(door, (step, hash) => say(`  did: ${stepInWords(step)} (${hash})`));
    if (left.refused !== null) say(`  refused: ${stepInWords(left.refused.step)}: ${left.refused.why}`);
    else if (left.did.length > 0) for (const line of planLines(left.plan, door.now)) say(line);
    const did = left.did.map(({ step, hash }) => ({ do: step.do, hash }));
    const refused = left.refused === null ? {} : { refused: { why: left.refused.why } };
    if (options.json) print(JSON.stringify({ order: Number(options.order), ...planJson(left.plan), did, ...refused }));
    if (left.refused !== null) return 1;
    return left.plan.owed === 0n ? 0 : 3;
  } catch (error) {
    if (!(error instanceof WrongChainError) && !(error instanceof NoGasError)) throw error;
    say(`  refused: ${error.message}`);
    if (options.json) print(JSON.stringify({ order: Number(options.order), refused: { why: error.message } }));
    return 1;
  }
}
