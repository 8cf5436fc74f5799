import {
  ChainSender,
  type ChainTransactions,
  type Mined,
  type SavedTransaction,
  type SendState,
  type SendWish,
} from '@freehold/market';
import {
  BaseError,
  BlockNotFoundError,
  createPublicClient,
  keccak256,
  parseTransaction,
  TransactionNotFoundError,
  TransactionReceiptNotFoundError,
  type Hex,
  type PrivateKeyAccount,
  type PublicClient,
  type TransactionReceipt,
} from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { feesNow, withMargin, type Fees } from './gas.ts';
import { revertWords } from './revert-words.ts';
import { rpcTransport, type Rpc } from './rpc-endpoints.ts';

export interface RpcChainSenderOptions {
  /** One endpoint, or several that are compared: a transaction is told to all of them. */
  readonly rpcUrl: Rpc;
  readonly chainId: number;
  readonly privateKey: Hex;
  readonly transactions: ChainTransactions;
  /** Blocks on top of and including a transaction's own before it counts. */
  readonly confirmations: number;
  /** A transaction that waits for longer gets a higher fee. */
  readonly replaceAfterMs?: number;
  /** The most that a unit of gas may cost, in wei: above it we wait. The endpoint's word on fees is not compared, so this bounds it. */
  readonly feePerGasMax?: bigint;
}

const RPC_TIMEOUT_MS = 10_000;
const REPLACE_AFTER_MS = 60_000;
/** Nodes refuse a replacement below +10 %; 12.5 % is what the strictest ask. In parts of 1,000. */
const REPLACE_PER_MILLE = 1_125n;
/** Estimates are exact for the state they saw; the next block may cost a little more. */
/** A posting of 1,000 credits takes 2.2 million; more than this no transaction may take on any chain we know (EIP-7825). */
const GAS_MAX = 16_777_216n;
/** Wei: far above what main nets ask in a busy week, and low enough that a lying endpoint cannot empty the wallet at once. */
export const FEE_PER_GAS_MAX = 500_000_000_000n;
/** Mined transactions are looked at again for so many blocks: a reorganisation may take them back. */
const WATCHED_BLOCKS = 128n;

/**
 * Sends transactions of one key. The order is sign → save → send, and what is saved is sent as it is, again and again, until
 * it or a replacement of its nonce is mined: so a lost answer, a crash or a restart sends nothing twice.
 *
 * One process at a time should run it (an office of `Leadership`); two at once only meet in the unique nonce.
 */
export class RpcChainSender extends ChainSender {
  override readonly address: string;
  readonly #options: RpcChainSenderOptions;
  readonly #account: PrivateKeyAccount;
  readonly #client: PublicClient;
  readonly #saved: ChainTransactions;
  #lastHead: { readonly number: bigint; readonly hash: string } | null = null;

  constructor(options: RpcChainSenderOptions) {
    super();
    this.#options = options;
    this.#account = privateKeyToAccount(options.privateKey);
    this.address = this.#account.address.toLowerCase();
    this.#client = createPublicClient({
      transport: rpcTransport(options.rpcUrl, { timeoutMs: RPC_TIMEOUT_MS, retryCount: 1 }),
    });
    this.#saved = options.transactions;
  }

  override async submit(wish: SendWish): Promise<SendState> {
    const known = await this.#saved.find(wish.purpose, wish.ref);
    if (known !== null && known.state !== 'failed') return stateOf(known);
    const gas = await this.#estimate(wish);
    if (typeof gas === 'string') return { state: 'refused', why: gas };
    const fees = await feesNow(this.#client);
    const tooDear = this.#tooDear(gas, fees.maxFeePerGas) ?? (await this.#tooPoor(gas, fees.maxFeePerGas));
    if (tooDear !== null) return { state: 'refused', why: tooDear };
    const saved = await this.#signAndSave(wish, gas, fees);
    // Another took the nonce or the wish meanwhile: what it saved is the answer at the next call.
    if (saved === null) return { state: 'refused', why: 'another sender was faster; ask again' };
    await this.#send(saved);
    return stateOf(saved);
  }

  override async tick(): Promise<{
    readonly confirmed: number;
    readonly failed: number;
    readonly resent: number;
    readonly replaced: number;
    readonly waits: string | null;
  }> {
    const { number: head, hash } = await this.#client.getBlock({ blockTag: 'latest' });
    const counts = { confirmed: 0, failed: 0, resent: 0, replaced: 0 };
    let waits: string | null = null;
    if (await this.#hasForked()) await this.#reopenRemoved(head);
    for (const open of await this.#saved.open(this.address)) {
      const outcome = await this.#follow(open, head);
      if (typeof outcome === 'object') {
        waits = outcome.waits;
        break;
      }
      if (outcome !== 'waiting') counts[outcome] += 1;
    }
    this.#lastHead = { number: head, hash };
    return { ...counts, waits };
  }

  /** Whether the block that was the head at the last turn is not on the chain any more. The first turn cannot know. */
  async #hasForked(): Promise<boolean> {
    if (this.#lastHead === null) return true;
    try {
      return (await this.#client.getBlock({ blockNumber: this.#lastHead.number })).hash !== this.#lastHead.hash;
    } catch (error) {
      if (error instanceof BlockNotFoundError) return true;
      throw error;
    }
  }

  /** Brings one open transaction a step further; with `waits` neither it nor what has a later nonce can go on. */
  async #follow(
    open: SavedTransaction,
    head: bigint,
  ): Promise<'confirmed' | 'failed' | 'resent' | 'replaced' | 'waiting' | { readonly waits: string }> {
    const winner = await this.#minedOf(open);
    if (winner !== null) {
      const { transaction, receipt } = winner;
      if (head - receipt.blockNumber + 1n < BigInt(this.#options.confirmations)) return 'waiting';
      await this.#saved.markMined(transaction, minedFrom(receipt));
      return receipt.status === 'success' ? 'confirmed' : 'failed';
    }
    if (open.state === 'sent' && open.ageMs > (this.#options.replaceAfterMs ?? REPLACE_AFTER_MS)) {
      return (await this.#raiseFee(open)) ? 'replaced' : 'waiting';
    }
    if (open.state === 'sent' && (await this.#isInPool(open.hash as Hex))) return 'waiting';
    const poor = await this.#cannotPayFor(open);
    if (poor !== null) return { waits: `${open.purpose} ${open.ref} (nonce ${open.nonce}): ${poor}` };
    await this.#send(open);
    return 'resent';
  }

  /** Whichever of all transactions ever signed for this nonce was mined. */
  async #minedOf(
    open: SavedTransaction,
  ): Promise<{ transaction: SavedTransaction; receipt: TransactionReceipt } | null> {
    for (const transaction of await this.#saved.ofNonce(this.address, open.nonce)) {
      const receipt = await this.#receipt(transaction.hash as Hex);
      if (receipt !== null) return { transaction, receipt };
    }
    return null;
  }

  async #reopenRemoved(head: bigint): Promise<void> {
    const since = head > WATCHED_BLOCKS ? head - WATCHED_BLOCKS : 0n;
    for (const mined of await this.#saved.minedSince(this.address, since)) {
      const receipt = await this.#receipt(mined.hash as Hex);
      if (receipt !== null && receipt.blockHash === mined.blockHash) continue;
      await this.#saved.reopen(mined.id);
    }
  }

  /** Why this is more than we pay, or null. */
  #tooDear(gas: bigint, feePerGas: bigint): string | null {
    const feeMax = this.#options.feePerGasMax ?? FEE_PER_GAS_MAX;
    if (withMargin(gas) > GAS_MAX) return `it would take up to ${withMargin(gas)} gas and the ceiling is ${GAS_MAX}`;
    if (feePerGas <= feeMax) return null;
    return `gas costs ${feePerGas} wei and the ceiling is ${feeMax}; it waits until gas is cheaper`;
  }

  /** Why the wallet cannot pay for it, or null. A transaction that nobody takes would hold up every later one by its nonce. */
  async #tooPoor(gas: bigint, feePerGas: bigint): Promise<string | null> {
    return this.#lacks(withMargin(gas) * feePerGas);
  }

  /** The same of a transaction that was saved when the wallet had enough, and was lost since. */
  async #cannotPayFor(saved: SavedTransaction): Promise<string | null> {
    const { gas = 0n, maxFeePerGas = 0n } = parseTransaction(saved.raw as Hex);
    return this.#lacks(gas * maxFeePerGas);
  }

  async #lacks(needs: bigint): Promise<string | null> {
    const has = await this.#client.getBalance({ address: this.#account.address });
    if (has >= needs) return null;
    return `the wallet ${this.address} has ${has} wei and gas may take ${needs}; it waits until somebody sends it some`;
  }

  async #signAndSave(wish: SendWish, gas: bigint, fees: Fees): Promise<SavedTransaction | null> {
    const [onChain, ours] = await Promise.all([
      this.#client.getTransactionCount({ address: this.#account.address, blockTag: 'latest' }),
      this.#saved.nextNonce(this.address),
    ]);
    const nonce = Math.max(onChain, ours);
    const raw = await this.#account.signTransaction({
      type: 'eip1559',
      chainId: this.#options.chainId,
      nonce,
      to: wish.call.to as Hex,
      data: wish.call.data as Hex,
      gas: withMargin(gas),
      ...fees,
    });
    const { purpose, ref } = wish;
    return this.#saved.save({ sender: this.address, nonce, purpose, ref, raw, hash: keccak256(raw) });
  }

  async #raiseFee(open: SavedTransaction): Promise<boolean> {
    const old = parseTransaction(open.raw as Hex);
    const now = await feesNow(this.#client);
    if (old.type !== 'eip1559')
      throw new Error(`transaction ${open.hash} is of type ${old.type}; we sign eip1559 only`);
    const { to, data, gas, nonce, chainId } = old;
    if (to === undefined || to === null || data === undefined || gas === undefined || nonce === undefined) {
      throw new Error(`transaction ${open.hash} is not one of ours: it calls nothing`);
    }
    const maxFeePerGas = atLeast(now.maxFeePerGas, raised(old.maxFeePerGas ?? 0n));
    // Above the ceiling, or what the wallet has, it stays as it is: it is mined when gas is cheaper again.
    if (this.#tooDear(0n, maxFeePerGas) !== null || (await this.#lacks(gas * maxFeePerGas)) !== null) return false;
    const raw = await this.#account.signTransaction({
      type: 'eip1559',
      chainId,
      nonce,
      to,
      data,
      gas,
      maxFeePerGas,
      maxPriorityFeePerGas: atLeast(now.maxPriorityFeePerGas, raised(old.maxPriorityFeePerGas ?? 0n)),
    });
    const saved = await this.#saved.replace(open, raw, keccak256(raw));
    if (saved === null) return false;
    await this.#send(saved);
    return true;
  }

  /** Hands the saved bytes to the endpoint. An endpoint that refuses is asked again at the next tick, with the same bytes. */
  async #send(saved: SavedTransaction): Promise<void> {
    try {
      await this.#client.sendRawTransaction({ serializedTransaction: saved.raw as Hex });
    } catch (error) {
      // Known already, or its nonce is used: it (or a replacement) is where it should be. The receipt decides, not this answer.
      if (!(error instanceof BaseError)) throw error;
      if (!isAlreadyThere(error)) return;
    }
    await this.#saved.markSent(saved.id);
  }

  /** Gas, or why the call would revert now. */
  async #estimate(wish: SendWish): Promise<bigint | string> {
    try {
      return await this.#client.estimateGas({
        account: this.#account.address,
        to: wish.call.to as Hex,
        data: wish.call.data as Hex,
      });
    } catch (error) {
      const why = revertWords(error);
      if (why === null) throw error;
      return why;
    }
  }

  async #receipt(hash: Hex): Promise<TransactionReceipt | null> {
    try {
      return await this.#client.getTransactionReceipt({ hash });
    } catch (error) {
      if (error instanceof TransactionReceiptNotFoundError) return null;
      throw error;
    }
  }

  async #isInPool(hash: Hex): Promise<boolean> {
    try {
      return (await this.#client.getTransaction({ hash })).blockNumber === null;
    } catch (error) {
      if (error instanceof TransactionNotFoundError) return false;
      throw error;
    }
  }
}

function stateOf(saved: SavedTransaction): SendState {
  if (saved.state === 'confirmed') return { state: 'confirmed', hash: saved.hash, gasUsed: saved.gasUsed ?? 0n };
  return { state: 'pending', hash: saved.hash };
}

function minedFrom(receipt: TransactionReceipt): Mined {
  const { gasUsed, blockNumber, blockHash, status } = receipt;
  return { succeeded: status === 'success', gasUsed, blockNumber, blockHash };
}

function raised(fee: bigint): bigint {
  return (fee * REPLACE_PER_MILLE) / 1_000n + 1n;
}

function atLeast(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function isAlreadyThere(error: BaseError): boolean {
  return /already known|already imported|nonce too low|known transaction/i.test(
    `${error.shortMessage} ${error.details}`,
  );
}
