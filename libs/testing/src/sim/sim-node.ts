import { GrowingTree, UnsignedWork } from '@freehold/domain';
import { toHex, type KeptTotal, type LeaseGrant, type RowsEnd } from '@freehold/market';
import {
  HELLO_TOTALS_MAX,
  leaseKey,
  rowLeafHash,
  taskIdBytes,
  type CoordinatorMessage,
  type HeldLease,
  type RowScore,
  type SignedOffer,
  type Work,
  type WorkOutput,
} from '@freehold/protocol';
import type { Dice } from './dice.ts';
import {
  DIGEST,
  ENGINE_CLASS,
  madeUpAnswer,
  MODEL,
  RATES,
  rightAnswer,
  scored,
  scoreOf,
  textOf,
  unitsOf,
} from './row-truth.ts';
import type { Connection, LeaseWork, LinkedNode, SimLink } from './sim-link.ts';
import { SimSigner } from './sim-signer.ts';
import type { VirtualTime } from './virtual-time.ts';

/** What a node does otherwise than an honest one. Every question left out is answered honestly. */
export interface Conduct {
  readonly name: string;
  /** Answers this row with something made up. */
  readonly makesUp?: (text: string, dice: Dice) => boolean;
  /** Answers every row with the first answer it ever made. */
  readonly copies?: boolean;
  /** So many times slower than its machine: what it shares the machine with is another of its names. */
  readonly slowness?: number;
  /** Signs another root than its rows have, or lets another sign. */
  readonly forges?: (dice: Dice) => 'root' | 'signature' | null;
  /** Stops in the middle of a lease and says nothing. */
  readonly fallsSilent?: (dice: Dice) => boolean;
  /** Takes a lease and keeps it: heartbeats name it, no row of it ever comes. */
  readonly stalls?: (dice: Dice) => boolean;
  readonly refuses?: (dice: Dice) => boolean;
  /** Vanishes with a checkpoint on its way, which arrives when its lease is another's by then. */
  readonly straggles?: (dice: Dice) => boolean;
  /** Goes off for so long right after each commit; 0: stays. */
  readonly leavesMs?: number;
  /** What it says of another's row: null runs it again. */
  readonly judges?: (committed: WorkOutput, work: Work) => 'good' | 'bad' | null;
  /** Lets every audit pass it by. */
  readonly isDeaf?: boolean;
}

export const HONEST: Conduct = { name: 'honest' };

interface Held {
  readonly nonce: string;
  committed: boolean;
  readonly isStalled: boolean;
  /** Of each of these rows. */
  units: number[];
  /** Leaf hashes of the rows so far, kept in the node's journal. */
  leaves: Uint8Array[];
}

export interface Voucher {
  readonly task: string;
  readonly epoch: string;
  readonly order: number;
  readonly cumulative: string;
  readonly total: string;
  readonly payee: string;
  readonly isSigned: boolean;
}

/** Units that a node delivers without a signature for them before it takes nothing more: some two hundred rows. */
export const UNSIGNED_MAX = 2_000n;
/** What is made up is there at once. */
const MAKING_UP_MS = 1;
/** About as long as a lease lives without a word, and a successor works on its rows. */
const STRAGGLE_MS = { least: 17_000, most: 32_000 };
/** There is one coordinator, and no run lasts a week. */
const FOR_ONE = { coordinator: 'coordinator', atMs: 0 };
const CUT: RowsEnd = { end: 'cut', message: 'the line broke' };

/** A provider's machine. Its journal (leases in hand, vouchers) survives it; what it was at does not. */
export class SimNode implements LinkedNode {
  readonly id: string;
  readonly address: string;
  readonly offer: SignedOffer;
  readonly conduct: Conduct;
  readonly vouchers = new Map<string, Voucher>();
  /** In units: one price for all. */
  readonly #unsigned = new UnsignedWork();
  readonly #time: VirtualTime;
  readonly #dice: Dice;
  readonly #signer: SimSigner;
  readonly #held = new Map<string, Held>();
  readonly #rowMs: number;
  readonly #checkpointRows: number;
  #line: { readonly connection: Connection; readonly link: SimLink } | null = null;
  #isUp = true;
  #first: WorkOutput | null = null;
  rowsRun = 0;
  /** Rises with every row that leaves. */
  signs = 0;
  rowsAudited = 0;
  /** Units of all rows that it ran, for itself or as an auditor: what its power bill follows. */
  unitsRun = 0;

  constructor(parts: {
    id: string;
    payout: string;
    conduct: Conduct;
    time: VirtualTime;
    dice: Dice;
    rates?: Readonly<Record<string, string>>;
  }) {
    this.id = parts.id;
    this.conduct = parts.conduct;
    this.#time = parts.time;
    this.#dice = parts.dice;
    this.address = `0x${parts.dice.hex(20)}`;
    this.#signer = new SimSigner(this.address);
    this.#rowMs = parts.dice.between(80, 500) * (parts.conduct.slowness ?? 1);
    this.#checkpointRows = parts.dice.between(2, 7);
    this.offer = offerOf(parts.id, this.address, parts.payout, parts.rates ?? RATES);
  }

  /** Looks for a coordinator again and again, and tells it what it has in hand. */
  live(find: () => SimLink | null): void {
    const turn = async (): Promise<void> => {
      if (!this.#isUp) return;
      if (this.#line?.connection.isUp !== true) {
        const link = find();
        const dialled = link?.dial(this, this.held()).catch(() => null) ?? null;
        const connection = await Promise.race([dialled, this.#patience()]);
        this.#line = link === null || connection === null ? null : { link, connection };
      }
      if (this.#line !== null) this.#line.link.heartbeat(this, this.#line.connection, this.held());
    };
    const again = (): void => {
      void turn().finally(() => {
        this.#time.after(1_500, again);
      });
    };
    this.#time.after(this.#dice.between(1, 300), again);
  }

  /** A process that died never answers. */
  async #patience(): Promise<null> {
    await this.#time.sleep(3_000);
    return null;
  }

  /** The machine goes off for so long. What is not in its journal is lost. */
  crash(forMs: number): void {
    this.#isUp = false;
    if (this.#line !== null) this.#line.link.cut(this.id);
    this.#line = null;
    this.#time.after(forMs, () => {
      this.#isUp = true;
    });
  }

  held(): HeldLease[] {
    return [...this.#held].map(([key, { nonce, committed, leaves }]) => {
      const [task = '', epoch = '1'] = key.split('.');
      return { task, epoch: Number(epoch), nonce, committed, done: leaves.length };
    });
  }

  totals(): KeptTotal[] {
    const totals = new Map<string, bigint>();
    for (const { epoch, total } of this.vouchers.values()) {
      const known = totals.get(epoch) ?? 0n;
      totals.set(epoch, BigInt(total) > known ? BigInt(total) : known);
    }
    return [...totals].map(([bookEpoch, total]) => ({ bookEpoch, total: String(total) })).slice(-HELLO_TOTALS_MAX);
  }

  /** Units that the coordinator has and signed nothing for. */
  get unsigned(): bigint {
    return this.#unsigned.owed(FOR_ONE.coordinator);
  }

  /** What the coordinator does not know any more is dropped. */
  keepOnly(asked: readonly HeldLease[], isKept: (lease: HeldLease) => boolean): void {
    for (const lease of asked) if (!isKept(lease)) this.#held.delete(leaseKey(lease));
  }

  async work({ grant, from, inputs, sink, signal, line, link }: LeaseWork): Promise<RowsEnd> {
    if (!line.isUp || !this.#isUp) return CUT;
    if (this.conduct.refuses?.(this.#dice) === true)
      return { end: 'refused', code: 'BUSY', message: 'the owner said no' };
    const key = leaseKey(grant);
    if (!this.#held.has(key) && this.unsigned >= UNSIGNED_MAX)
      return { end: 'refused', code: 'UNSIGNED', message: 'too much is delivered and not signed' };
    const held = this.#held.get(key) ?? this.#taken(grant.nonce);
    this.#held.set(key, held);
    if (held.isStalled) return never();
    held.leaves = held.leaves.slice(0, from);
    held.units = held.units.slice(0, from);
    const isForged = this.conduct.forges?.(this.#dice) ?? null;
    const silentAt = this.conduct.fallsSilent?.(this.#dice) === true ? from + this.#dice.between(0, 5) : Infinity;
    let batch: { index: number; output: WorkOutput }[] = [];
    try {
      for await (const input of inputs) {
        const madeUp = this.#madeUp(input.work);
        await this.#time.sleep(madeUp === null ? this.#rowMs : MAKING_UP_MS);
        if (!line.isUp || !this.#isUp || signal.aborted) return CUT;
        if (input.index >= silentAt) return await never();
        const output = madeUp ?? this.#run(input.work);
        this.signs += 1;
        batch.push({ index: input.index, output });
        held.leaves.push(rowLeafHash(grant.task, input.rowNo, input.work, output));
        held.units.push(unitsOf(input.work));
        const n = input.index + 1;
        const last = n === grant.rows;
        if (!last && n % this.#checkpointRows !== 0) continue;
        if (this.conduct.straggles?.(this.#dice) === true) await this.#straggle();
        await link.delay();
        await sink.results(batch);
        batch = [];
        const believed = await sink.checkpoint({ n, last, ...(await this.#sign(grant, held.leaves, isForged)) });
        if (!believed) {
          this.#held.delete(key);
          return { end: 'failed', code: 'CHECKPOINT_REFUSED', message: 'the checkpoint was not believed' };
        }
        held.committed = last;
        this.#unsigned.add({ ...FOR_ONE, task: grant.task, amount: BigInt(sumOf(held.units)) });
        await link.delay();
        if (last && (this.conduct.leavesMs ?? 0) > 0) this.crash(this.conduct.leavesMs ?? 0);
      }
    } catch (error) {
      return { end: 'cut', message: String(error) };
    }
    return held.committed ? { end: 'committed' } : CUT;
  }

  #taken(nonce: string): Held {
    return { nonce, committed: false, leaves: [], units: [], isStalled: this.conduct.stalls?.(this.#dice) === true };
  }

  /** What the network holds back for so long is still what it was when it was sent. */
  async #straggle(): Promise<void> {
    const awayMs = this.#dice.between(STRAGGLE_MS.least, STRAGGLE_MS.most);
    this.crash(awayMs);
    await this.#time.sleep(awayMs - 1_000);
  }

  #run(work: Work): WorkOutput {
    this.rowsRun += 1;
    this.unitsRun += unitsOf(work);
    this.#first ??= rightAnswer(work);
    return rightAnswer(work);
  }

  /** An answer that costs nothing; null where the node does its work. */
  #madeUp(work: Work): WorkOutput | null {
    if (this.conduct.makesUp?.(textOf(work), this.#dice) === true) return madeUpAnswer(work);
    if (this.conduct.copies !== true || this.#first?.kind !== 'embedding') return null;
    return { ...this.#first, unitsIn: unitsOf(work) };
  }

  async #sign(
    grant: LeaseGrant,
    leaves: readonly Uint8Array[],
    isForged: 'root' | 'signature' | null,
  ): Promise<{ readonly root: string; readonly signature: string }> {
    const tree = new GrowingTree();
    for (const leaf of isForged === 'root' ? leaves.slice(1) : leaves) tree.addHash(leaf);
    const root = toHex(tree.root());
    const task = toHex(taskIdBytes(grant.task));
    const message = { task, epoch: BigInt(grant.epoch), n: BigInt(leaves.length), root };
    const signer = isForged === 'signature' ? new SimSigner(`0x${'f0'.repeat(20)}`) : this.#signer;
    return { root, signature: await signer.sign('LeaseCheckpoint', message) };
  }

  async audit(
    rows: readonly { readonly rowNo: number; readonly work: Work; readonly committed: WorkOutput }[],
  ): Promise<{ readonly scores: readonly RowScore[] } | null> {
    if (this.conduct.isDeaf === true) return null;
    const scores: RowScore[] = [];
    for (const { rowNo, work, committed } of rows) {
      const said = this.conduct.judges?.(committed, work) ?? null;
      if (said === null) {
        await this.#time.sleep(this.#rowMs);
        this.rowsAudited += 1;
        this.unitsRun += unitsOf(work);
      }
      scores.push(said === null ? scoreOf(rowNo, work, committed) : scored(rowNo, work, said === 'good'));
    }
    return { scores };
  }

  hear(message: CoordinatorMessage, link: SimLink): void {
    if (message.type === 'drop' || message.type === 'rejected') this.#held.delete(leaseKey(message.lease));
    if (message.type !== 'accepted') return;
    const task = String(message.receipt['task']);
    for (const key of [...this.#held.keys()]) if (key.startsWith(`${task}.`)) this.#held.delete(key);
    if (message.voucher === null) return;
    const { epoch, order, cumulative, total, payee, signature } = message.voucher;
    const text = (value: unknown): string => (typeof value === 'string' ? value : '');
    this.vouchers.set(task, {
      task,
      epoch: text(epoch),
      order: Number(order),
      cumulative: text(cumulative),
      total: text(total),
      payee: text(payee),
      isSigned: text(signature) !== '',
    });
    if (text(signature) !== '') this.#unsigned.signed(task);
    void link.kept(this.id, task).catch(() => {
      // The coordinator sends it again at the next hello.
    });
  }
}

function sumOf(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}

function never(): Promise<never> {
  return new Promise(() => {
    // A node that says nothing is noticed by the lease's clock alone.
  });
}

/** Beyond any run. */
const EXPIRES_AT_S = 4_102_444_800;

function offerOf(node: string, address: string, payout: string, rates: Readonly<Record<string, string>>): SignedOffer {
  const caps = { tokens: false, logprobs: false, promptLogprobs: false, seed: true, lora: false, embeddings: true };
  const facts = { kind: 'embedding', quantisation: 'none', contextTokens: 4_096, slots: 1, loaded: true } as const;
  const model = { name: MODEL, digest: DIGEST, ...facts, caps, rates, rowsPerSecond: 0 };
  const offer = {
    v: 1 as const,
    node,
    address,
    payout,
    seq: 1,
    expiresAt: EXPIRES_AT_S,
    region: 'here',
    isolation: 'none' as const,
    gpus: [],
    cpuMilli: 2_000,
    memoryMib: 1_024,
    diskMib: 1_024,
    engines: [{ class: ENGINE_CLASS, models: [model] }],
    pools: [],
    noticeS: 0,
    exposureMax: '1000000000',
    chatSharePercent: 50,
  };
  return { offer, signature: `0x${'11'.repeat(65)}` };
}
