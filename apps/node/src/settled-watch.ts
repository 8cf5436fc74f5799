import { ExitClient, WrongChainError } from '@freehold/wiring/node';
import type { OpenPromise } from './receipts.ts';
import { noteSettled, type Settled } from './settled-file.ts';

/**
 * Reads from the chain what has become of the node's promises, so that its exposure falls when epochs are paid and vouchers
 * are cashed, whoever did it. The coordinator's word is not asked for: a promise is settled when the escrow has it.
 */
export class SettledWatch {
  readonly #dataDir: string;
  readonly #rpcUrl: string;
  readonly #payout: string;
  readonly #log: (event: string, detail: Record<string, unknown>) => void;
  readonly #said = new Set<string>();
  /** Credits of epochs that became final with less than was promised: they do not change any more. */
  readonly #short = new Map<string, bigint>();

  constructor(parts: {
    readonly dataDir: string;
    readonly rpcUrl: string;
    readonly payout: string;
    readonly log: (event: string, detail: Record<string, unknown>) => void;
  }) {
    this.#dataDir = parts.dataDir;
    this.#rpcUrl = parts.rpcUrl;
    this.#payout = parts.payout;
    this.#log = parts.log;
  }

  /** Looks once after all open promises. Returns whether any of them was settled. */
  async look(open: readonly OpenPromise[]): Promise<boolean> {
    const books = new Map<string, OpenPromise[]>();
    for (const promise of open) {
      const key = `${promise.coordinator}/${promise.book}`;
      books.set(key, [...(books.get(key) ?? []), promise]);
    }
    const found: Record<string, string> = {};
    for (const promises of books.values()) Object.assign(found, await this.#lookInto(promises));
    return Object.keys(found).length > 0 && (await noteSettled(this.#dataDir, found, this.#log));
  }

  async #lookInto(promises: readonly OpenPromise[]): Promise<Settled> {
    const [{ coordinator, book } = { coordinator: '', book: '' }] = promises;
    const [chainId = '', escrow = ''] = coordinator.split('/');
    if (!/^0x[0-9a-f]{40}$/.test(escrow)) return {};
    const client = new ExitClient({ rpcUrl: this.#rpcUrl, escrow, book });
    try {
      await client.requireChain(Number(chainId));
    } catch (error) {
      if (!(error instanceof WrongChainError)) throw error;
      this.#sayOnce('exposure-other-chain', { book, message: error.message });
      return {};
    }
    const facts = await client.bookFacts();
    const found: Record<string, string> = {};
    for (const promise of promises) {
      const amount = await this.#settledOf(client, facts, promise);
      if (amount !== null) found[`${book}/${promise.epoch}`] = String(amount);
    }
    return found;
  }

  /** Null while nothing of it is on the chain. */
  async #settledOf(
    client: ExitClient,
    facts: Awaited<ReturnType<ExitClient['bookFacts']>>,
    { book, epoch, total, orders }: OpenPromise,
  ): Promise<bigint | null> {
    if (epoch < facts.next) {
      const key = `${book}/${epoch}`;
      const credited = this.#short.get(key) ?? (await client.credited(facts, this.#payout, epoch));
      if (credited >= total) return total;
      this.#short.set(key, credited);
      // It stays in the exposure: this is what a promise without a payment looks like.
      const say = { book, epoch: String(epoch), credited: String(credited), promised: String(total) };
      this.#sayOnce('epoch-paid-short', say);
      return credited > 0n ? credited : null;
    }
    if (facts.stage !== 'dead') return null;
    const cashed = await client.cashedOrders(this.#payout, epoch, Object.keys(orders));
    const sum = cashed.reduce((amount, order) => amount + BigInt(orders[order] ?? '0'), 0n);
    return sum > 0n ? sum : null;
  }

  #sayOnce(event: string, detail: Record<string, string>): void {
    const key = JSON.stringify([event, detail]);
    if (this.#said.has(key)) return;
    this.#said.add(key);
    this.#log(event, detail);
  }
}
