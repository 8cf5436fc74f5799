import { Blocks } from '@freehold/market';
import { BlockNotFoundError, createPublicClient, type PublicClient } from 'viem';
import { rpcTransport, type Rpc } from './rpc-endpoints.ts';

const RPC_TIMEOUT_MS = 5_000;
/** Many leases commit within one block: they share its height. */
const HEIGHT_FRESH_MS = 250;
const HASHES_KEPT = 512;

/** Heights and hashes of a chain behind one RPC endpoint, or several that are compared. */
export class RpcBlocks extends Blocks {
  readonly #client: PublicClient;
  readonly #hashes = new Map<bigint, string>();
  /** Asked for and not answered yet: many leases are drawn by one block. */
  readonly #asked = new Map<bigint, Promise<string | null>>();
  #height: { readonly at: number; readonly value: Promise<bigint> } | null = null;

  constructor(rpc: Rpc) {
    super();
    this.#client = createPublicClient({ transport: rpcTransport(rpc, { timeoutMs: RPC_TIMEOUT_MS, retryCount: 2 }) });
  }

  override height(): Promise<bigint> {
    const now = performance.now();
    if (this.#height === null || now - this.#height.at > HEIGHT_FRESH_MS) {
      const value = this.#client.getBlockNumber({ cacheTime: 0 });
      this.#height = { at: now, value };
      // The failed answer is the caller's; the next caller asks anew.
      value.catch(() => (this.#height = null));
    }
    return this.#height.value;
  }

  override async hash(height: bigint): Promise<string | null> {
    const known = this.#hashes.get(height);
    if (known !== undefined) return known;
    const asked = this.#asked.get(height) ?? this.#ask(height).finally(() => this.#asked.delete(height));
    this.#asked.set(height, asked);
    return asked;
  }

  async #ask(height: bigint): Promise<string | null> {
    try {
      const block = await this.#client.getBlock({ blockNumber: height });
      if (block.hash === null) return null;
      if (this.#hashes.size >= HASHES_KEPT) this.#hashes.clear();
      this.#hashes.set(height, block.hash);
      return block.hash;
    } catch (error) {
      if (error instanceof BlockNotFoundError) return null;
      throw error;
    }
  }
}
