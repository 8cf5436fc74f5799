import { computeEscrowAbi, devnetTokenAbi } from '@freehold/contracts';
import {
  Escrow,
  type BookHoldings,
  type BookNow,
  type ChainEvent,
  type ChainHead,
  type EscrowCall,
} from '@freehold/market';
import { packLanes } from '@freehold/protocol';
import {
  BlockNotFoundError,
  createPublicClient,
  encodeFunctionData,
  getAddress,
  type Hex,
  type PublicClient,
} from 'viem';
import { bookStage } from './book-stage.ts';
import { chainEvents } from './decode-event.ts';
import { rpcTransport, type Rpc } from './rpc-endpoints.ts';

export interface EscrowClientOptions {
  /** One endpoint, or several that are compared. */
  readonly rpcUrl: Rpc;
  readonly escrow: string;
  /** The book's id: the hash of its terms. */
  readonly book: string;
}

const RPC_TIMEOUT_MS = 10_000;

/** One book of the escrow over JSON-RPC. Reads and call data only: keys are with the sender and with the requesters. */
export class EscrowClient extends Escrow {
  override readonly book: string;
  readonly address: Hex;
  readonly #id: Hex;
  readonly #client: PublicClient;

  constructor(options: EscrowClientOptions) {
    super();
    this.book = options.book.toLowerCase();
    this.#id = options.book as Hex;
    this.address = getAddress(options.escrow);
    this.#client = createPublicClient({
      transport: rpcTransport(options.rpcUrl, { timeoutMs: RPC_TIMEOUT_MS, retryCount: 2 }),
    });
  }

  /** For {@link ChainHistory.rememberChain}: which chain this is, by its first block. */
  async identity(): Promise<{ readonly chainId: number; readonly genesis: string; readonly escrow: string }> {
    const [chainId, genesis] = await Promise.all([
      this.#client.getChainId(),
      this.#client.getBlock({ blockNumber: 0n }),
    ]);
    return { chainId, genesis: genesis.hash, escrow: this.address.toLowerCase() };
  }

  override async head(): Promise<ChainHead> {
    const { number, hash, timestamp } = await this.#client.getBlock({ blockTag: 'latest' });
    return { number, hash, timestamp };
  }

  override async hashOf(block: bigint): Promise<string | null> {
    try {
      return (await this.#client.getBlock({ blockNumber: block })).hash;
    } catch (error) {
      if (error instanceof BlockNotFoundError) return null;
      throw error;
    }
  }

  override async events(from: bigint, to: bigint): Promise<readonly ChainEvent[]> {
    const logs = await this.#client.getLogs({ address: this.address, fromBlock: from, toBlock: to });
    // Every event of a book has the book as its first topic after the name. Endpoints are asked for one address; whoever answers
    // with another's logs, or with removed ones, is not believed.
    const address = this.address.toLowerCase();
    return chainEvents(
      logs.filter(
        (log) => log.topics[1]?.toLowerCase() === this.book && log.address.toLowerCase() === address && !log.removed,
      ),
    );
  }

  override async bookNow(): Promise<BookNow> {
    const book = await this.#read('bookOf', [this.#id]);
    return {
      stage: bookStage(book.stage, this.address, this.book),
      next: BigInt(book.next),
      startsAt: BigInt(book.start),
      epochSeconds: BigInt(book.epochLength),
      windowSeconds: BigInt(book.window),
      postedAt: BigInt(book.postedAt),
      feeBps: book.feeBps,
    };
  }

  override async payeeBalance(index: number): Promise<bigint> {
    return (await this.#read('payeeOf', [this.#id, index])).balance;
  }

  override async holdings(block: bigint): Promise<BookHoldings> {
    const at = { address: this.address, abi: computeEscrowAbi, blockNumber: block } as const;
    const book = await this.#client.readContract({ ...at, functionName: 'bookOf', args: [this.#id] });
    const orders = await inTurn(book.orders, (order) =>
      this.#client.readContract({ ...at, functionName: 'orderOf', args: [this.#id, order] }),
    );
    const payees = await inTurn(book.payees, (payee) =>
      this.#client.readContract({ ...at, functionName: 'payeeOf', args: [this.#id, payee] }),
    );
    const token = await this.#client.readContract({ ...at, functionName: 'TOKEN' });
    const tokens = await this.#client.readContract({
      address: token,
      abi: devnetTokenAbi,
      functionName: 'balanceOf',
      args: [this.address],
      blockNumber: block,
    });
    return {
      block,
      lanes: orders.reduce((sum, order) => sum + order.reserved + order.free, 0n),
      balances: payees.reduce((sum, payee) => sum + payee.balance, 0n),
      bond: book.bond,
      tokens,
    };
  }

  override addPayee(payee: string): EscrowCall {
    const address = getAddress(payee);
    return this.#call(
      encodeFunctionData({
        abi: computeEscrowAbi,
        functionName: 'addPayee',
        args: [this.#id, address, address, 0, 0n],
      }),
    );
  }

  override post(epoch: bigint, debits: ReadonlyMap<number, bigint>, credits: ReadonlyMap<number, bigint>): EscrowCall {
    const args = [this.#id, Number(epoch), packLanes(debits), packLanes(credits)] as const;
    return this.#call(encodeFunctionData({ abi: computeEscrowAbi, functionName: 'post', args }));
  }

  override finalise(debits: ReadonlyMap<number, bigint>, credits: ReadonlyMap<number, bigint>): EscrowCall {
    const args = [this.#id, packLanes(debits), packLanes(credits)] as const;
    return this.#call(encodeFunctionData({ abi: computeEscrowAbi, functionName: 'finalise', args }));
  }

  override withdraw(payees: readonly number[]): EscrowCall {
    return this.#call(
      encodeFunctionData({ abi: computeEscrowAbi, functionName: 'withdraw', args: [this.#id, payees] }),
    );
  }

  override refund(order: number): EscrowCall {
    return this.#call(encodeFunctionData({ abi: computeEscrowAbi, functionName: 'refund', args: [this.#id, order] }));
  }

  #call(data: Hex): EscrowCall {
    return { to: this.address, data };
  }

  #read<Name extends 'bookOf' | 'payeeOf'>(functionName: Name, args: readonly unknown[]) {
    return this.#client.readContract({
      address: this.address,
      abi: computeEscrowAbi,
      functionName,
      args: args as never, // viem knows one tuple per function; here the name stands for several
    });
  }
}

/** A few reads at a time: an RPC endpoint refuses bursts. */
const READS_AT_ONCE = 16;

async function inTurn<T>(count: number, read: (index: number) => Promise<T>): Promise<T[]> {
  const all: T[] = [];
  for (let from = 0; from < count; from += READS_AT_ONCE) {
    const indices = Array.from({ length: Math.min(READS_AT_ONCE, count - from) }, (_, i) => from + i);
    all.push(...(await Promise.all(indices.map(read))));
  }
  return all;
}
