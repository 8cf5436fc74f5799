import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  createSignatureCheck,
  createSigner,
  deployDevnet,
  EscrowClient,
  passChainTime,
  RpcChainSender,
  WorkLogCalls,
  type Devnet,
  type Rpc,
} from '@freehold/chain';
import { workLogAbi } from '@freehold/contracts';
import { ledger } from '@freehold/domain';
import {
  chainFacts,
  guardPayouts,
  ProviderLink,
  settleBook,
  syncChain,
  type BookSettled,
  type ChainFacts,
  type ChainTransactions,
  type ConnectedNode,
  type Escrow,
  type LinkEvents,
  type Synced,
} from '@freehold/market';
import type { CoordinatorMessage } from '@freehold/protocol';
import {
  balanceOfAccount,
  PgChainHistory,
  PgChainTransactions,
  PgPayoutGate,
  PgSettlementStore,
  runDoctor,
} from '@freehold/persistence';
import { startAnvil, type EmbeddedAnvil } from '@freehold/wiring/embedded';
import { createPublicClient, createTestClient, http, type Hex } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { marketDatabase, type MarketDatabase } from '../../libs/persistence/test/market-database.ts';
import { FEE_BPS, MarketWorld } from '../../libs/persistence/test/market-world.ts';

/** For the tests of wiring, which reach these through here. */
export { FEE_BPS, marketDatabase, MarketWorld, type MarketDatabase };

export const EPOCH_SECONDS = 60;
export const WINDOW_SECONDS = 30;
const CHAIN_DIR = 'chain';

/** Remembers what nodes are told; a test decides who is connected. */
export class HearingLink extends ProviderLink {
  readonly told: { readonly nodeId: string; readonly message: CoordinatorMessage }[] = [];
  isConnected = true;

  override tell(nodeId: string, message: CoordinatorMessage): boolean {
    if (this.isConnected) this.told.push({ nodeId, message });
    return this.isConnected;
  }
  override listen(_events: LinkEvents): Promise<void> {
    return Promise.resolve();
  }
  override addresses(): readonly string[] {
    return [];
  }
  override peerId(): string {
    return 'none';
  }
  override nodes(): readonly ConnectedNode[] {
    return [];
  }
  override runLease(): Promise<never> {
    return Promise.reject(new Error('this link only tells'));
  }
  override runStream(): AsyncIterable<never> {
    throw new Error('this link only tells');
  }
  override audit(): Promise<never> {
    return Promise.reject(new Error('this link only tells'));
  }
  override close(): Promise<void> {
    return Promise.resolve();
  }
}

/** No test over this bench takes longer. */
const TEST_MS_MAX = 600_000;

/** A real chain, a real database, and everything between them. Chain time moves only when a test says so. */
export class SettlementBench {
  readonly world: MarketWorld;
  readonly link = new HearingLink();
  readonly escrow: EscrowClient;
  readonly history: PgChainHistory;
  readonly transactions: PgChainTransactions;
  readonly settlement: PgSettlementStore;
  readonly gate: PgPayoutGate;
  readonly sender: RpcChainSender;
  readonly devnet: Devnet;
  readonly delegateKey: Hex;
  readonly operatorKey: Hex;
  readonly market: MarketDatabase;
  readonly #dir: string;
  #anvil: EmbeddedAnvil;

  private constructor(parts: {
    anvil: EmbeddedAnvil;
    market: MarketDatabase;
    devnet: Devnet;
    delegateKey: Hex;
    operatorKey: Hex;
    dir: string;
  }) {
    this.#anvil = parts.anvil;
    this.market = parts.market;
    this.devnet = parts.devnet;
    this.delegateKey = parts.delegateKey;
    this.operatorKey = parts.operatorKey;
    this.#dir = parts.dir;
    this.world = new MarketWorld(parts.market.database);
    const { escrow, book } = parts.devnet;
    const operatorPayer = privateKeyToAccount(parts.operatorKey).address.toLowerCase();
    this.escrow = new EscrowClient({ rpcUrl: parts.anvil.url, escrow, book });
    this.history = new PgChainHistory(parts.market.database, { book, escrow: escrow.toLowerCase(), operatorPayer });
    this.transactions = new PgChainTransactions(parts.market.database);
    this.settlement = new PgSettlementStore(parts.market.database);
    this.gate = new PgPayoutGate(parts.market.database);
    this.sender = this.newSender();
  }

  static async start(): Promise<SettlementBench> {
    const dir = mkdtempSync(join(tmpdir(), 'freehold-settlement-'));
    const [anvil, market] = await Promise.all([
      startAnvil({ stateFile: join(dir, CHAIN_DIR, 'chain.json') }),
      marketDatabase(),
    ]);
    const delegateKey = newKey();
    const operatorKey = newKey();
    const devnet = await deployDevnet({
      rpcUrl: anvil.url,
      deployerKey: newKey(),
      delegateKey,
      feeTo: privateKeyToAccount(newKey()).address,
      feeBps: FEE_BPS,
      epochSeconds: EPOCH_SECONDS,
      windowSeconds: WINDOW_SECONDS,
    });
    return new SettlementBench({ anvil, market, devnet, delegateKey, operatorKey, dir });
  }

  get anvil(): EmbeddedAnvil {
    return this.#anvil;
  }

  /** The chain dies without a word and comes back on its port: with what it had on disk, or as a new chain. */
  async restartAnvil(state: 'kept' | 'lost'): Promise<void> {
    const { port } = this.#anvil;
    await this.#anvil.stop('kill');
    if (state === 'lost') rmSync(join(this.#dir, CHAIN_DIR), { recursive: true, force: true });
    this.#anvil = await startAnvil({ stateFile: join(this.#dir, CHAIN_DIR, 'chain.json'), port });
  }

  newSender(
    options: {
      readonly rpcUrl?: Rpc;
      readonly transactions?: ChainTransactions;
      readonly replaceAfterMs?: number;
      readonly confirmations?: number;
      readonly feePerGasMax?: bigint;
    } = {},
  ): RpcChainSender {
    return new RpcChainSender({
      rpcUrl: this.anvil.url,
      chainId: this.devnet.chainId,
      privateKey: this.delegateKey,
      transactions: this.transactions,
      confirmations: 1,
      ...options,
    });
  }

  get voucherPorts() {
    return { settlement: this.settlement, signer: createSigner(this.delegateKey, this.domain), link: this.link };
  }

  get domain() {
    return { chainId: this.devnet.chainId, escrow: this.devnet.escrow };
  }

  get signatures() {
    return createSignatureCheck(this.domain);
  }

  get syncPorts() {
    const sameChain = async (): Promise<void> => this.history.rememberChain(await this.escrow.identity());
    return { history: this.history, fromBlock: this.devnet.fromBlock, depth: 0n, sameChain };
  }

  sync(escrow: Escrow = this.escrow): Promise<Synced> {
    return syncChain({ escrow, ...this.syncPorts });
  }

  /** One turn as the scheduler makes it: read, follow what was sent, do what is next. */
  async turn(sender = this.sender): Promise<BookSettled> {
    await this.sync();
    await sender.tick();
    const settled = await settleBook({
      escrow: this.escrow,
      sender,
      settlement: this.settlement,
      workLog: new WorkLogCalls(this.devnet.workLog),
      payoutMin: 1n,
      payoutsHalted: async () => (await guardPayouts({ escrow: this.escrow, gate: this.gate })).halted,
    });
    await sender.tick();
    await this.sync();
    return settled;
  }

  /** Turns until the book stands at `next` and everything is sent. */
  async turnUntil(next: bigint): Promise<void> {
    for (let i = 0; i < 12; i += 1) {
      await this.turn();
      if (
        (await this.escrow.bookNow()).next >= next &&
        (await this.transactions.open(this.sender.address)).length === 0
      )
        return;
      await this.passTime(WINDOW_SECONDS);
    }
    throw new Error(`the book did not come to epoch ${next}`);
  }

  passTime(seconds: number): Promise<void> {
    return passChainTime(this.anvil.url, seconds);
  }

  facts(): Promise<ChainFacts> {
    return chainFacts({
      escrow: this.escrow,
      history: this.history,
      transactions: this.transactions,
      sender: this.sender.address,
    });
  }

  async escrowOfLedger(): Promise<bigint> {
    return -(await balanceOfAccount(this.market.database, ledger.ESCROW));
  }

  balance(account: Parameters<typeof balanceOfAccount>[1]): Promise<bigint> {
    return balanceOfAccount(this.market.database, account);
  }

  /** Σ of an epoch's vouchers is the last total of each payee, whatever the order they were written in. */
  async vouchersAddUp(): Promise<boolean> {
    const rows = await this.market.database.query(
      `SELECT 1 FROM (SELECT book_epoch, payee, sum(net) AS sum, max(total) AS last FROM voucher GROUP BY book_epoch, payee) v WHERE sum <> last
       UNION ALL
       SELECT 1 FROM (SELECT book_epoch, payee, order_index, sum(net) AS sum, max(cumulative) AS last FROM voucher GROUP BY 1, 2, 3) v WHERE sum <> last`,
    );
    return rows.length === 0;
  }

  /** Names of the violated checks. */
  async doctor(): Promise<readonly string[]> {
    const facts = await this.facts();
    // Nothing here works by itself, so what waits for the test's own next step is not stuck, however slow the machine is.
    const report = await runDoctor(this.market.database, { chain: facts, stuckAfterMs: TEST_MS_MAX });
    return report.violations.map((violation) => JSON.stringify(violation));
  }

  async reorg(depth: number): Promise<void> {
    const test = createTestClient({ mode: 'anvil', transport: http(this.anvil.url) });
    // viem knows no such method.
    await test.request({ method: 'anvil_reorg' as never, params: [depth, []] as never });
  }

  async mine(blocks: number): Promise<void> {
    await createTestClient({ mode: 'anvil', transport: http(this.anvil.url) }).mine({ blocks });
  }

  /** What the work log says of our book, as the chain is now. */
  async anchors(): Promise<readonly { by: string; epoch: bigint; root: string; commits: bigint }[]> {
    const client = createPublicClient({ transport: http(this.anvil.url) });
    const { workLog: address, book } = this.devnet;
    const logs = await client.getContractEvents({
      ...{ address, abi: workLogAbi, eventName: 'Anchored', args: { book }, strict: true },
      ...{ fromBlock: this.devnet.fromBlock, toBlock: 'latest' },
    });
    return logs.map(({ args: { by, epoch, root, commits } }) => ({ by: by.toLowerCase(), epoch, root, commits }));
  }

  /** An org whose own wallet pays. */
  async selfCustodyOrg(): Promise<{ readonly org: string; readonly key: Hex; readonly wallet: Hex }> {
    const key = newKey();
    const wallet = privateKeyToAccount(key).address;
    const org = `org_${randomBytes(6).toString('hex')}`;
    await this.market.database.query(`INSERT INTO org (id, name, trust, wallet) VALUES ($1, $1, 'self-custody', $2)`, [
      org,
      wallet.toLowerCase(),
    ]);
    return { org, key, wallet };
  }

  /** Rows worked, delivered and accepted on a job, as the market does it. */
  async work(job: string, node: string, rowFrom: number, rowTo: number): Promise<string> {
    const lease = await this.world.lease(job, node, rowFrom, rowTo);
    await this.world.deliver(lease);
    const accepted = await this.world.accept(lease);
    if (!accepted.moved) throw new Error(`rows ${rowFrom}–${rowTo} were not accepted: ${accepted.why}`);
    return lease.task;
  }

  async close(): Promise<void> {
    await Promise.all([this.anvil.stop('kill'), this.market.close()]);
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

export function newKey(): Hex {
  return `0x${randomBytes(32).toString('hex')}`;
}
