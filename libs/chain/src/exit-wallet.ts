import {
  createPublicClient,
  formatEther,
  http,
  keccak256,
  type Hex,
  type PrivateKeyAccount,
  type PublicClient,
} from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import type { ExitCall } from './exit-client.ts';
import { feesNow, withMargin } from './gas.ts';
import { revertWords } from './revert-words.ts';

export interface ExitWalletOptions {
  readonly rpcUrl: string;
  readonly privateKey: Hex;
  /** How long a sent transaction is waited for. */
  readonly patienceMs?: number;
}

/** The wallet has too little of the chain's own coin to send anything. */
export class NoGasError extends Error {
  override readonly name = 'NoGasError';
}

const RPC_TIMEOUT_MS = 15_000;
const PATIENCE_MS = 180_000;
const POLL_MS = 250;

/**
 * Sends one call after the other, and keeps no memory: what was sent before a crash is found in the pool by its nonce and
 * waited for, and what it did is read from the chain.
 */
export class ExitWallet {
  readonly address: string;
  readonly #account: PrivateKeyAccount;
  readonly #client: PublicClient;
  readonly #patienceMs: number;

  constructor(options: ExitWalletOptions) {
    this.#account = privateKeyToAccount(options.privateKey);
    this.address = this.#account.address.toLowerCase();
    this.#client = createPublicClient({
      transport: http(options.rpcUrl, { timeout: RPC_TIMEOUT_MS, retryCount: 2 }),
      pollingInterval: POLL_MS,
    });
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS;
  }

  /** Why a call would revert if this wallet sent it now; null when it would not. */
  async refusal(call: ExitCall, from: string = this.address): Promise<string | null> {
    try {
      await this.#client.call({ account: from as Hex, to: call.to, data: call.data });
      return null;
    } catch (error) {
      const why = revertWords(error);
      if (why === null) throw error;
      return why;
    }
  }

  /** What an earlier run has sent comes first. @throws when it does not get mined. */
  async settleEarlier(): Promise<void> {
    const deadline = performance.now() + this.#patienceMs;
    for (;;) {
      const [mined, all] = await Promise.all([this.#nonce('latest'), this.#nonce('pending')]);
      if (mined >= all) return;
      if (performance.now() > deadline)
        throw new Error(
          `${all - mined} transactions of ${this.address} wait to be mined since before this run. Wait for them, or replace them with a higher fee, and run this again.`,
        );
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** @throws {NoGasError} naming the address and what it lacks. */
  async send(call: ExitCall): Promise<{ readonly hash: Hex }> {
    await this.settleEarlier();
    const [gas, fees, balance, nonce, chainId] = await Promise.all([
      this.#gasOf(call),
      feesNow(this.#client),
      this.#client.getBalance({ address: this.#account.address }),
      this.#nonce('latest'),
      this.#client.getChainId(),
    ]);
    const needed = gas * fees.maxFeePerGas;
    if (balance < needed)
      throw new NoGasError(
        `To ${call.what}, ${this.address} needs up to ${formatEther(needed)} of the chain's own coin for gas (${needed} wei) and has ${formatEther(balance)}. Send it the difference, or let somebody else send it: --relayer ADDRESS --relay-fee AMOUNT.`,
      );
    const raw = await this.#account.signTransaction({
      type: 'eip1559',
      chainId,
      nonce,
      to: call.to,
      data: call.data,
      gas,
      ...fees,
    });
    await this.#client.sendRawTransaction({ serializedTransaction: raw });
    const hash = keccak256(raw);
    const { status } = await this.#client.waitForTransactionReceipt({ hash, timeout: this.#patienceMs });
    if (status !== 'success')
      throw new Error(
        `${call.what}: transaction ${hash} was mined and reverted, because the chain moved on meanwhile. Run this again.`,
      );
    return { hash };
  }

  async #gasOf(call: ExitCall): Promise<bigint> {
    return withMargin(await this.#client.estimateGas({ account: this.#account.address, to: call.to, data: call.data }));
  }

  #nonce(blockTag: 'latest' | 'pending'): Promise<number> {
    return this.#client.getTransactionCount({ address: this.#account.address, blockTag });
  }
}
