import { EscrowClient, RpcChainSender, WorkLogCalls, type RpcEndpoints } from '@freehold/chain';
import {
  COMPARE_EVERY_MS,
  guardPayouts,
  issueVoucher,
  settleBook,
  syncChain,
  type ChainHead,
  type ChainHistory,
  type ChainSender,
  type Escrow,
  type ProviderLink,
  type SettlementStore,
  type Signer,
  type Step,
  type SyncChainPorts,
  type KeptTotal,
  VoucherPages,
} from '@freehold/market';
import {
  PgChainHistory,
  PgChainTransactions,
  PgLeadership,
  PgPayoutGate,
  PgSettlementStore,
  type Database,
} from '@freehold/persistence';
import type { CoordinatorConfig } from '../config.ts';
import type { Failpoints } from './failpoints.ts';
import type { Log } from './log.ts';
import { ChainFollower } from './chain-follower.ts';
import { LOOK_MS } from './chain-pace.ts';
import type { Settlement } from './settlement.ts';

interface Parts {
  readonly config: CoordinatorConfig;
  readonly database: Database;
  readonly link: ProviderLink;
  readonly signer: Signer;
  readonly log: Log;
  readonly rpc: RpcEndpoints;
  /** Armed in fault tests only. */
  readonly failpoints: Failpoints | null;
}

/** A voucher waits so long for others to share its statements and commits. */
const GROUP_MS = 10;
/** Of all processes one follows the chain at a time; the others' turns are skipped. */
const OFFICE = 'chain';

/** The money path over the escrow of the configuration. */
export function createSettlement(parts: Parts): Settlement {
  return new ChainSettlement(parts);
}

class ChainSettlement implements Settlement {
  readonly #parts: Parts;
  readonly #client: EscrowClient;
  readonly #escrow: Escrow;
  readonly #sync: SyncChainPorts;
  readonly #history: ChainHistory;
  readonly #settlement: SettlementStore;
  readonly #pages: VoucherPages;
  readonly #sender: ChainSender;
  readonly #leadership: PgLeadership;
  readonly #gate: PgPayoutGate;
  readonly #workLog: WorkLogCalls | null;
  #comparedAtMs = Number.NEGATIVE_INFINITY;
  #isKnownChain = false;
  readonly #follower: ChainFollower;
  #said = '';
  #waited: string | null = null;

  constructor(parts: Parts) {
    const { config, database, rpc: rpcUrl } = parts;
    const { escrow, book, operatorPayer, chainId, confirmations } = config;
    this.#parts = parts;
    const guarded = <T extends object>(name: string, port: T): T => parts.failpoints?.around(name, port) ?? port;
    this.#client = new EscrowClient({ rpcUrl, escrow, book });
    this.#escrow = guarded<Escrow>('Escrow', this.#client);
    this.#history = guarded('ChainHistory', new PgChainHistory(database, { book, escrow, operatorPayer }));
    this.#sync = {
      escrow: this.#escrow,
      history: this.#history,
      fromBlock: config.escrowBlock,
      depth: BigInt(confirmations - 1),
      sameChain: () => this.#meetChain(),
    };
    this.#settlement = guarded('SettlementStore', new PgSettlementStore(database, GROUP_MS));
    this.#pages = new VoucherPages({ ...this.#voucherPorts, clock: { nowMs: () => performance.now() } });
    const sender = new RpcChainSender({
      rpcUrl,
      chainId,
      privateKey: config.delegateKey,
      transactions: guarded('ChainTransactions', new PgChainTransactions(database)),
      confirmations,
      feePerGasMax: config.feePerGasMax,
    });
    this.#sender = guarded('ChainSender', sender);
    this.#leadership = new PgLeadership(database);
    this.#gate = new PgPayoutGate(database);
    this.#workLog = config.workLog === null ? null : new WorkLogCalls(config.workLog);
    this.#follower = new ChainFollower({
      read: () => this.#read(),
      settle: () => this.#settle(),
      nowMs: () => performance.now(),
      log: parts.log,
    });
  }

  async issueVoucher(task: string): Promise<void> {
    await issueVoucher(this.#voucherPorts, task);
  }

  async resendVouchers(nodeId: string, totals?: readonly KeptTotal[]): Promise<void> {
    await this.#pages.begin(nodeId, totals);
  }

  voucherKept(nodeId: string, task: string): Promise<void> {
    return this.#pages.kept(nodeId, task);
  }

  async followChain(): Promise<number> {
    return (await this.#leadership.attempt(OFFICE, () => this.#follower.look())) ?? LOOK_MS;
  }

  async settleOnChain(): Promise<void> {
    await this.#leadership.attempt(OFFICE, async () => {
      await this.#read();
      await this.#settle();
    });
  }

  async #read(): Promise<{ readonly head: ChainHead; readonly isNews: boolean }> {
    if (!this.#isKnownChain) await this.#meetChain();
    this.#isKnownChain = true;
    const { applied, undone, at, head } = await syncChain(this.#sync);
    if (undone > 0) this.#parts.log.warn({ undone, at: String(at) }, 'the chain took events back');
    return { head, isNews: applied + undone > 0 };
  }

  /** Refuses another chain than the ledger's, and a fee that the book would not let us finalise. */
  async #meetChain(): Promise<void> {
    const identity = await this.#client.identity();
    const { chainId } = this.#parts.config;
    if (identity.chainId !== chainId) {
      throw new Error(
        `RPC_URL serves chain ${identity.chainId}, but CHAIN_ID is ${chainId}: signatures for one are worth nothing on the other. Set RPC_URL to an endpoint of chain ${chainId}.`,
      );
    }
    await this.#history.rememberChain(identity);
    const { feeBps } = await this.#escrow.bookNow();
    if (this.#parts.config.feeBps <= feeBps) return;
    throw new Error(
      `FEE_BPS is ${this.#parts.config.feeBps}, but the book ${this.#escrow.book} allows ${feeBps}: an epoch charged so could never be finalised. Set FEE_BPS to at most ${feeBps}.`,
    );
  }

  async #settle(): Promise<{ readonly moved: boolean; readonly deadline: bigint | null }> {
    const { confirmed, failed, resent, replaced, waits } = await this.#sender.tick();
    if (failed + resent + replaced > 0) this.#parts.log.warn({ confirmed, failed, resent, replaced }, 'transactions');
    if (waits !== null && waits !== this.#waited) this.#parts.log.warn({ waits }, 'a transaction waits');
    this.#waited = waits;
    const { deadline, ...road } = await settleBook({
      escrow: this.#escrow,
      sender: this.#sender,
      settlement: this.#settlement,
      workLog: this.#workLog,
      payoutsHalted: () => this.#payoutsHalted(),
      payoutMin: this.#parts.config.payoutMin,
    });
    const steps: readonly Step[] = Object.values(road);
    const did = steps.flatMap((step) => ('did' in step ? [step.did] : []));
    // The same step is pending over many turns: it is said once.
    if (did.length > 0 && did.join() !== this.#said) this.#parts.log.info({ did }, 'settlement');
    this.#said = did.join();
    return { moved: did.length + confirmed > 0, deadline };
  }

  /** The operator's word is read every time; the escrow is compared with the ledger every {@link COMPARE_EVERY_MS}, and while halted. */
  async #payoutsHalted(): Promise<string | null> {
    const before = (await this.#gate.state()).halted;
    if (before === null && performance.now() - this.#comparedAtMs < COMPARE_EVERY_MS) return null;
    const { halted, changed } = await guardPayouts({ escrow: this.#escrow, gate: this.#gate });
    this.#comparedAtMs = performance.now();
    if (changed && halted !== null) this.#parts.log.error({ why: halted }, 'payouts are halted');
    if (changed && halted === null)
      this.#parts.log.info({ was: before?.why }, 'payouts run again: the mismatch is gone');
    return halted;
  }

  get #voucherPorts() {
    return { settlement: this.#settlement, signer: this.#parts.signer, link: this.#parts.link };
  }
}
