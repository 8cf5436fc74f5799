import { computeEscrowAbi } from '@freehold/contracts';
import type { BookFacts, ExitStep, PayeeFacts } from '@freehold/market';
import { unpackLanes, type KeptVoucher } from '@freehold/protocol';
import {
  BaseError,
  ContractFunctionRevertedError,
  createPublicClient,
  decodeAbiParameters,
  encodeAbiParameters,
  encodeFunctionData,
  getAbiItem,
  getAddress,
  http,
  keccak256,
  numberToHex,
  parseCompactSignature,
  parseSignature,
  serializeCompactSignature,
  signatureToCompactSignature,
  toEventSelector,
  zeroAddress,
  type Hex,
  type PublicClient,
} from 'viem';
import { bookStage } from './book-stage.ts';

export interface ExitClientOptions {
  readonly rpcUrl: string;
  readonly escrow: string;
  readonly book: string;
}

/** A posting as it was posted. */
export interface PostedWords {
  readonly debits: readonly bigint[];
  readonly credits: readonly bigint[];
}

/** An order as its owner needs it. */
export interface OrderFacts {
  readonly index: number;
  readonly payer: string;
  readonly refundTo: string;
  readonly params: string;
  readonly closeEpoch: bigint | null;
  readonly reserved: bigint;
  readonly free: bigint;
}

export interface ExitCall {
  readonly what: string;
  readonly to: Hex;
  readonly data: Hex;
}

/** Nothing on this chain is what the receipts speak of. The text says what was expected and what came. */
export class WrongChainError extends Error {
  override readonly name = 'WrongChainError';
}

const RPC_TIMEOUT_MS = 15_000;
/** Blocks of one look for events: endpoints refuse wider ones. */
const LOG_BLOCKS = 2_000n;
const POSTED = toEventSelector(getAbiItem({ abi: computeEscrowAbi, name: 'EpochPosted' }));
const FINAL = toEventSelector(getAbiItem({ abi: computeEscrowAbi, name: 'EpochFinal' }));

/**
 * A book as somebody sees it who has an RPC endpoint, a voucher or an order, and nobody's help: reads, and the calls of every
 * exit. Finds events by the chain's own clock, so that no first block has to be known.
 */
export class ExitClient {
  readonly escrow: Hex;
  readonly book: Hex;
  readonly #client: PublicClient;

  constructor(options: ExitClientOptions) {
    this.escrow = getAddress(options.escrow);
    this.book = options.book as Hex;
    this.#client = createPublicClient({ transport: http(options.rpcUrl, { timeout: RPC_TIMEOUT_MS, retryCount: 2 }) });
  }

  /** Refuses an endpoint of another chain, and a chain without this escrow or book. */
  async requireChain(chainId: number): Promise<{ readonly delegate: string; readonly feeBps: number }> {
    const found = await this.#client.getChainId();
    if (found !== chainId)
      throw new WrongChainError(
        `The RPC endpoint serves chain ${found}; these receipts are of chain ${chainId}. Give an endpoint of chain ${chainId} with --rpc.`,
      );
    const code = await this.#client.getCode({ address: this.escrow });
    if (code === undefined || code === '0x')
      throw new WrongChainError(
        `Chain ${found} has no contract at ${this.escrow}. It is another chain of the same number, or one that lost its state.`,
      );
    try {
      const { delegate, feeBps } = await this.#book();
      return { delegate: delegate.toLowerCase(), feeBps };
    } catch (error) {
      if (!isRevert(error)) throw error;
      throw new WrongChainError(`The escrow ${this.escrow} on chain ${found} knows no book ${this.book}.`);
    }
  }

  async bookFacts(): Promise<BookFacts> {
    const [book, { timestamp }, notice, claims] = await Promise.all([
      this.#book(),
      this.#client.getBlock({ blockTag: 'latest' }),
      this.#read('NOTICE', []),
      this.#read('CLAIMS', []),
    ]);
    return {
      stage: bookStage(book.stage, this.escrow, this.book),
      next: BigInt(book.next),
      startsAt: BigInt(book.start),
      epochSeconds: BigInt(book.epochLength),
      windowSeconds: BigInt(book.window),
      graceSeconds: BigInt(book.grace),
      since: BigInt(book.since),
      postedAt: BigInt(book.postedAt),
      hasSuccessor: book.successor !== zeroAddress,
      noticeSeconds: notice,
      claimsSeconds: claims,
      now: timestamp,
    };
  }

  /** Null when there is no such order. */
  async order(index: number): Promise<OrderFacts | null> {
    try {
      const order = await this.#read('orderOf', [this.book, index]);
      return {
        index,
        payer: order.payer.toLowerCase(),
        refundTo: order.refundTo.toLowerCase(),
        params: order.params,
        closeEpoch: order.closing ? BigInt(order.closeEpoch) : null,
        reserved: order.reserved,
        free: order.free,
      };
    } catch (error) {
      if (isRevert(error)) return null;
      throw error;
    }
  }

  /** Null while the delegate has not registered it. */
  async payee(address: string): Promise<{
    readonly index: number;
    readonly payout: string;
    readonly nonce: number;
    readonly balance: bigint;
  } | null> {
    const index = await this.#read('payeeIndex', [this.book, getAddress(address)]);
    const { operator, payout, nonce, balance } = await this.#read('payeeOf', [this.book, index]);
    // Index zero is the delegate's own, and the answer for strangers.
    if (operator.toLowerCase() !== address.toLowerCase()) return null;
    return { index, payout: payout.toLowerCase(), nonce, balance };
  }

  /** Everything that a payee's plan depends on. Final epochs are looked up only as far as vouchers of them are at hand. */
  async payeeFacts(book: BookFacts, address: string, vouchers: readonly KeptVoucher[]): Promise<PayeeFacts> {
    const payee = await this.payee(address);
    const epochs = [...new Set(vouchers.map(({ epoch }) => BigInt(epoch)))];
    const isPosted = book.stage === 'posted' || book.stage === 'amended';
    const creditIn = async (epoch: bigint): Promise<bigint> =>
      payee === null ? 0n : creditOf((await this.posting(book, epoch)).credits, payee.index);
    const posted = isPosted && epochs.includes(book.next) ? await creditIn(book.next) : null;
    const final = new Map<bigint, bigint>();
    for (const epoch of epochs.filter((candidate) => candidate < book.next)) final.set(epoch, await creditIn(epoch));
    const lanes = new Map<string, bigint>();
    const cashed = new Set<string>();
    if (book.stage === 'dead') {
      for (const { order } of vouchers)
        if (!lanes.has(order)) lanes.set(order, (await this.order(Number(order)))?.reserved ?? 0n);
      for (const { epoch, order } of vouchers) {
        const key = `${epoch}/${order}`;
        if (payee === null || cashed.has(key)) continue;
        if (await this.#read('isCashed', [this.book, payee.index, Number(epoch), Number(order)])) cashed.add(key);
      }
    }
    return { isRegistered: payee !== null, balance: payee?.balance ?? 0n, posted, final, lanes, cashed };
  }

  /** What a final epoch credited to a payee; nothing to one that the book does not know. */
  async credited(book: BookFacts, address: string, epoch: bigint): Promise<bigint> {
    const payee = await this.payee(address);
    return payee === null ? 0n : creditOf((await this.posting(book, epoch)).credits, payee.index);
  }

  /** Those of a payee's vouchers, by order, that were cashed in an epoch of a dead book. */
  async cashedOrders(address: string, epoch: bigint, orders: readonly string[]): Promise<readonly string[]> {
    const payee = await this.payee(address);
    if (payee === null) return [];
    const cashed: string[] = [];
    for (const order of orders)
      if (await this.#read('isCashed', [this.book, payee.index, Number(epoch), Number(order)])) cashed.push(order);
    return cashed;
  }

  /** The last posting of an epoch, word by word as it was posted: what contest and finalise show again. */
  async posting(book: BookFacts, epoch: bigint): Promise<PostedWords> {
    const isRunning = epoch === book.next && (book.stage === 'posted' || book.stage === 'amended');
    const from = await this.#firstBlockAt(isRunning ? book.postedAt : endOf(book, epoch));
    const head = await this.#client.getBlockNumber({ cacheTime: 0 });
    let found: PostedWords | null = null;
    let isFinal = false;
    for (let at = from; at <= head && !isFinal; at += LOG_BLOCKS) {
      const seen = await this.#postedWithin(at, at + LOG_BLOCKS - 1n < head ? at + LOG_BLOCKS - 1n : head, epoch);
      found = seen.posted ?? found;
      isFinal = seen.isFinal;
    }
    if (found === null)
      throw new Error(
        `Epoch ${epoch} was posted, but the endpoint shows no such event from block ${from} on. Try another endpoint.`,
      );
    return found;
  }

  /** A step as the call that does it. */
  async callOf(step: ExitStep, payee: string): Promise<ExitCall> {
    const what = stepInWords(step);
    switch (step.do) {
      case 'enrol':
        return this.#call(what, 'enrol', [this.book, getAddress(payee), Number(step.epoch), claimOf(step.claim)]);
      case 'contest': {
        const { debits, credits } = await this.posting(await this.bookFacts(), step.epoch);
        const index = await this.#indexOf(payee);
        return this.#call(what, 'contest', [this.book, keccak256(packed(debits)), credits, index, claimOf(step.claim)]);
      }
      case 'finalise': {
        const { debits, credits } = await this.posting(await this.bookFacts(), step.epoch);
        return this.#call(what, 'finalise', [this.book, debits, credits]);
      }
      case 'declare-missed':
        return this.#call(what, 'declareMissed', [this.book]);
      case 'cash':
        return this.cashCall(step, await this.#indexOf(payee), 0n, '0x');
      case 'withdraw':
        return this.#call(what, 'withdraw', [this.book, [await this.#indexOf(payee)]]);
      case 'close':
        return this.#call(what, 'close', [this.book, step.order]);
      case 'refund':
        return this.#call(what, 'refund', [this.book, step.order]);
    }
  }

  /** Cashing, by the payee itself (empty signature) or by anyone who has its signature over exactly these claims. */
  cashCall(step: Extract<ExitStep, { do: 'cash' }>, index: number, deadline: bigint, signature: Hex): ExitCall {
    const claims = step.claims.map(claimOf);
    return this.#call(stepInWords(step), 'cash', [this.book, index, Number(step.epoch), claims, deadline, signature]);
  }

  /** A withdrawal that a relayer sends and takes its fee from. */
  withdrawForCall(signed: {
    readonly payee: number;
    readonly fee: bigint;
    readonly atLeast: bigint;
    readonly deadline: bigint;
    readonly signature: Hex;
  }): ExitCall {
    return this.#call(`withdraw at least ${signed.atLeast}, of which the relayer keeps ${signed.fee}`, 'withdrawFor', [
      this.book,
      [signed],
    ]);
  }

  async #indexOf(payee: string): Promise<number> {
    const found = await this.payee(payee);
    if (found === null) throw new Error(`${payee} is no payee of book ${this.book} yet.`);
    return found.index;
  }

  async #postedWithin(
    from: bigint,
    to: bigint,
    epoch: bigint,
  ): Promise<{ readonly posted: PostedWords | null; readonly isFinal: boolean }> {
    const logs = await this.#client.request({
      method: 'eth_getLogs',
      params: [
        {
          address: this.escrow,
          fromBlock: numberToHex(from),
          toBlock: numberToHex(to),
          topics: [[POSTED, FINAL], this.book, numberToHex(epoch, { size: 32 })],
        },
      ],
    });
    const last = logs.findLast(({ topics }) => topics[0] === POSTED);
    return {
      posted: last === undefined ? null : postedWords(last.data),
      isFinal: logs.some(({ topics }) => topics[0] === FINAL),
    };
  }

  /** The first block whose clock is not before `time`. */
  async #firstBlockAt(time: bigint): Promise<bigint> {
    let low = 0n;
    let high = await this.#client.getBlockNumber({ cacheTime: 0 });
    while (low < high) {
      const middle = (low + high) / 2n;
      const { timestamp } = await this.#client.getBlock({ blockNumber: middle });
      if (timestamp < time) low = middle + 1n;
      else high = middle;
    }
    return low;
  }

  #book() {
    return this.#read('bookOf', [this.book]);
  }

  #call(what: string, functionName: string, args: readonly unknown[]): ExitCall {
    const data = encodeFunctionData({ abi: computeEscrowAbi, functionName, args } as Parameters<
      typeof encodeFunctionData
    >[0]);
    return { what, to: this.escrow, data };
  }

  #read<Name extends 'bookOf' | 'orderOf' | 'payeeOf' | 'payeeIndex' | 'isCashed' | 'NOTICE' | 'CLAIMS'>(
    functionName: Name,
    args: readonly unknown[],
  ) {
    return this.#client.readContract({
      address: this.escrow,
      abi: computeEscrowAbi,
      functionName,
      args: args as never, // viem knows one tuple per function; here the name stands for several
    });
  }
}

/** keccak256 of the claims' ABI encoding: what a payee signs so that another may cash exactly them. */
export function claimsHash(claims: readonly KeptVoucher[]): Hex {
  const { inputs } = getAbiItem({ abi: computeEscrowAbi, name: 'cash' });
  const [, , , list] = inputs;
  return keccak256(encodeAbiParameters([list], [claims.map(claimOf)]));
}

/** A step in words, for a plan. */
export function stepInWords(step: ExitStep): string {
  switch (step.do) {
    case 'enrol':
      return 'register the payee by its voucher';
    case 'contest':
      return `contest epoch ${step.epoch}: ${step.posted} is posted, the voucher says ${step.claim.total}`;
    case 'finalise':
      return `finalise epoch ${step.epoch}`;
    case 'declare-missed':
      return `declare the book dead: nobody settled epoch ${step.epoch} in time`;
    case 'cash':
      return `cash ${step.claims.length} vouchers of epoch ${step.epoch} over ${step.amount}`;
    case 'withdraw':
      return `withdraw ${step.amount}`;
    case 'close':
      return `close order ${step.order}`;
    case 'refund':
      return `refund ${step.amount} of order ${step.order}`;
  }
}

/** The voucher as the escrow reads it. It must pay all of its amount, or the call reverts. */
function claimOf(voucher: KeptVoucher) {
  const compact = serializeCompactSignature(signatureToCompactSignature(parseSignature(voucher.signature as Hex)));
  const { r, yParityAndS } = parseCompactSignature(compact);
  return {
    order: Number(voucher.order),
    orderParams: voucher.orderParams as Hex,
    cumulative: BigInt(voucher.cumulative),
    total: BigInt(voucher.total),
    atLeast: BigInt(voucher.cumulative),
    receipt: voucher.receipt as Hex,
    r,
    vs: yParityAndS,
  };
}

/** The lists of an `EpochPosted` event. */
function postedWords(data: Hex): PostedWords {
  const lists = [{ type: 'bytes32' }, { type: 'uint256[]' }, { type: 'uint256[]' }] as const;
  const [, debits, credits] = decodeAbiParameters(lists, data);
  return { debits, credits };
}

function endOf(book: BookFacts, epoch: bigint): bigint {
  return book.startsAt + (epoch + 1n) * book.epochSeconds;
}

function creditOf(credits: readonly bigint[], index: number): bigint {
  return new Map(unpackLanes([...credits])).get(index) ?? 0n;
}

function packed(list: readonly bigint[]): Hex {
  return `0x${list.map((word) => word.toString(16).padStart(64, '0')).join('')}`;
}

function isRevert(error: unknown): boolean {
  return error instanceof BaseError && error.walk((cause) => cause instanceof ContractFunctionRevertedError) !== null;
}
