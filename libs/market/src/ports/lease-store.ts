import type { Amount, AuditDue, JobKind, NodeNeeds, Rates, TaskState, Usage, VerifyLevel } from '@freehold/domain';
import type { HeldLease, LeaseRef, SignedOffer } from '@freehold/protocol';
import type { Whereabouts } from '../may-hold.ts';
import type { HeldShard } from './shards.ts';

/** A job that has rows waiting for a slot, as the placement sees it. */
export interface OpenDemand {
  readonly jobId: string;
  readonly orgId: string;
  readonly kind: 'batch' | 'fine-tune';
  /** Where its rows would be asked for one by one: what the model has to do. */
  readonly endpoint: string;
  readonly model: string;
  /** Whether its rows are answered by an adapter over the model. */
  readonly wearsAdapter: boolean;
  readonly region: string | null;
  /** What it asks of the node itself; absent: nothing. */
  readonly needs?: NodeNeeds;
  readonly poolId: string | null;
  readonly verify: VerifyLevel;
  readonly rateCaps: Rates;
  /** Names of the blocks that all its prompts begin with; absent: none. */
  readonly promptBlocks?: readonly string[];
  /** 0 is usual. */
  readonly priority: number;
  /** Milliseconds from the snapshot. */
  readonly deadlineInMs: number;
  readonly ageMs: number;
  /** Rows not cut into tasks yet: [nextRow, rowCount). */
  readonly nextRow: number;
  readonly rowCount: number;
  /** Begins on so many nodes at once or not yet; absent: it has begun, or begins on any. */
  readonly gang?: number;
  /** Tasks that came back, smallest rows first, at most a few hundred. */
  readonly queued: readonly {
    readonly taskId: string;
    readonly epoch: number;
    readonly rowFrom: number;
    readonly rowTo: number;
    readonly attempts: number;
    readonly lastNode: string | null;
    /** Since it came back. */
    readonly waitedMs: number;
  }[];
}

/** A batch that is over: what it asked of nodes, and who worked on it. */
export interface PastJob {
  readonly job: Pick<
    OpenDemand,
    | 'jobId'
    | 'kind'
    | 'endpoint'
    | 'model'
    | 'wearsAdapter'
    | 'region'
    | 'needs'
    | 'poolId'
    | 'verify'
    | 'rateCaps'
    | 'deadlineInMs'
  >;
  /** Whether the node that asks did some of it. */
  readonly isOwn: boolean;
  /** The different rates of its leases. */
  readonly paid: readonly Rates[];
  /** Leases of it that this node turned away, and why the last of them; null: none. */
  readonly refused: { readonly leases: number; readonly why: string } | null;
  /** Leases of it that this node lost without having signed for any of their rows, and why the last of them; null: none. */
  readonly takenBack: { readonly leases: number; readonly why: string } | null;
}

/** Rows of a job that nodes have now and have not signed for. */
export interface RowsAtWork {
  readonly rows: number;
  readonly nodes: number;
  /** The lease that got no further for the longest, and what is left of its term where its node was asked to hand it back. */
  readonly slowest: { readonly quietMs: number; readonly leftMs: number | null };
}

export interface PastWorkFound {
  /** Looked at: less than was asked for where the node came meanwhile. */
  readonly withinMs: number;
  readonly jobs: readonly PastJob[];
}

/** A node that stands ready for work, and how long ago it was last heard of. */
export interface SeenNode {
  readonly nodeId: string;
  readonly agoMs: number;
}

/** What the market remembers of a node. */
export interface NodeRecord {
  readonly nodeId: string;
  readonly payout: string;
  readonly rowsAccepted: number;
  readonly rowsAudited: number;
  readonly rowsBad: number;
  readonly leasesLost: number;
  readonly benchedForMs: number;
  readonly benchedWhy: string | null;
  /** Rows per second by model digest, measured by us. */
  readonly speed: Readonly<Record<string, number>>;
  /** Rows leased or delivered and not accepted yet. */
  readonly rowsInFlight: number;
  readonly leasesInFlight: number;
}

export interface MovedSince {
  readonly cursor: string;
  readonly nodeIds: readonly string[];
  /** Jobs of tasks that moved. */
  readonly jobIds: readonly string[];
  /** Work filed for the placement, and its jobs: the newest, some of which were told before. */
  readonly filed: readonly { readonly outboxId: string; readonly jobId: string }[];
}

/** One decision of the placement. `taskId` null cuts a new task from the job's uncut rows. */
export interface LeaseWish {
  readonly jobId: string;
  readonly taskId: string | null;
  readonly epoch: number;
  readonly rowFrom: number;
  readonly rowTo: number;
  readonly nodeId: string;
  readonly model: string;
  readonly digest: string;
  readonly engineClass: string;
  readonly rates: Rates;
  readonly nonce: string;
}

export interface GrantedLease extends LeaseRef {
  readonly jobId: string;
  readonly nodeId: string;
  readonly nonce: string;
  readonly model: string;
  readonly digest: string;
  readonly engineClass: string;
  readonly rates: Rates;
  readonly rowFrom: number;
  readonly rowTo: number;
}

/** Where the input of each row of a task lies. */
export interface RowPlace {
  readonly rowNo: number;
  readonly customId: string;
  readonly offset: number;
  readonly length: number;
}

export interface LeaseInputs {
  readonly inputFile: string;
  readonly endpoint: string;
  readonly model: string;
  /** The adapter that answers the rows of this job; null: the base alone. */
  readonly adapter: string | null;
  readonly rows: readonly RowPlace[];
}

export interface DeliveredRow {
  readonly rowNo: number;
  readonly offset: number;
  readonly length: number;
  readonly leafHash: Uint8Array;
  readonly succeeded: boolean;
  readonly usage: Usage;
}

export interface LeaseView extends GrantedLease, Whereabouts {
  readonly orgId: string;
  readonly kind: JobKind;
  /** sha256 of the adapter that answers its rows; null: the model alone. */
  readonly adapter: string | null;
  readonly state: TaskState;
  /** The task's epoch now: an older lease is stale. */
  readonly taskEpoch: number;
  readonly verify: VerifyLevel;
  readonly payout: string;
  readonly address: string;
  readonly road: 'batch' | 'stream';
  readonly checkpointRows: number;
  readonly checkpointRoot: string | null;
  readonly checkpointSignature: string | null;
  readonly committed: boolean;
  readonly drawHeight: bigint | null;
  readonly drawSeed: string | null;
  readonly drawRows: readonly number[] | null;
  readonly alive: boolean;
  /** Its node was asked to hand it back: {@link LeaseStore.yieldWithin}. */
  readonly asked: boolean;
  /** It was committed for its node, at its last checkpoint, when it was handed or taken back: what comes later is nobody's. */
  readonly cutShort: boolean;
}

export interface AuditFinding {
  readonly rowNo: number;
  readonly auditor: string;
  readonly auditorKind: 'node' | 'coordinator';
  readonly verdict: 'good' | 'bad' | 'unsure';
  /** Said inside the engine class of the lease, under tight thresholds. */
  readonly sameClass: boolean;
  readonly score: unknown;
}

/** An auditor whose word was proven wrong, and by what. */
export interface WrongAuditor {
  readonly nodeId: string;
  readonly why: string;
}

/** Everything acceptance writes in one transaction. */
export interface Acceptance extends LeaseRef {
  readonly rows: number;
  readonly rowsSucceeded: number;
  readonly audited: number;
  readonly draw: 'none' | 'coordinator' | 'requester';
  readonly usage: Usage;
  /** Gross, before the clamp by what is left of the hold. */
  readonly due: Amount;
  readonly feeBps: number;
  /** What the auditors are due out of a fee; called inside the transaction. Absent when nobody but ourselves looked. */
  readonly audits?: (fee: Amount) => readonly AuditDue[];
  readonly root: string;
  /** Builds the signed statement from what was really charged; called inside the transaction, must not do I/O. */
  readonly document: (charge: Amount, fee: Amount) => Record<string, unknown>;
}

/** A lease whose payloads may go. */
export interface SweepableLease extends LeaseRef {
  readonly jobId: string;
  readonly road: 'batch' | 'stream';
}

/** A lease whose clock ran out. */
export interface DeadLease extends LeaseRef {
  readonly nodeId: string;
  /** Its node was there and delivered nothing for too long; else it died of silence. */
  readonly stalled: boolean;
  /** Its node was asked to hand it back, was there until its time was over, and did not. */
  readonly kept: boolean;
  /** Its node was asked to hand it back, and signed more rows since. */
  readonly signedSince: boolean;
}

export type Remembered =
  | { readonly accepted: true }
  /** `overtaken`: a newer one of the node is known. `conflicting`: the same seq was signed over something else. */
  | { readonly accepted: false; readonly code: 'expired' | 'overtaken' | 'conflicting'; readonly why: string };

export type Fenced = { readonly moved: false; readonly why: 'moved-by-another' | 'not-found' };
export type Moved<T = unknown> = ({ readonly moved: true } & T) | Fenced;

export type Accepted = Moved<{
  readonly charge: Amount;
  readonly fee: Amount;
  readonly jobDone: boolean;
  /** The outbox row of its voucher, where it is ours to do for a moment; after that, or absent, the queue brings it. */
  readonly settle?: string;
}>;

/** Tasks, leases and their rows. State moves by compare-and-set on (id, epoch, state); time is the database's. */
export abstract class LeaseStore {
  /** Keeps a node's newest offer. The same offer again is accepted again; another one under the same seq never. */
  abstract rememberNode(offer: SignedOffer): Promise<Remembered>;
  /** Nodes that stand ready for work: {@link OfferBook} counts them as here. What came later, or was said by another since, stands. */
  abstract saw(nodes: readonly SeenNode[]): Promise<void>;
  /** What we measured of a node on one model, for every process and the next start. */
  abstract rememberSpeed(nodeId: string, digest: string, rowsPerSecond: number): Promise<void>;
  abstract nodeRecords(nodeIds: readonly string[]): Promise<ReadonlyMap<string, NodeRecord>>;
  /** Nodes whose tasks moved, and jobs whose demand did, since a cursor that was returned before; perhaps some more. Null: from now on. */
  abstract moved(cursor: string | null): Promise<MovedSince>;
  abstract demand(limitJobs: number, limitQueuedPerJob: number): Promise<readonly OpenDemand[]>;
  /** The demand of these jobs; those with nothing waiting are missing. */
  abstract demandOf(jobIds: readonly string[], limitQueuedPerJob: number): Promise<readonly OpenDemand[]>;
  /** Null: no node has rows of it. */
  abstract atWork(jobId: string): Promise<RowsAtWork | null>;
  /** Jobs with rows that wait, by their ids, after one. */
  abstract demandPage(
    after: string | null,
    limitJobs: number,
    limitQueuedPerJob: number,
  ): Promise<readonly OpenDemand[]>;

  /**
   * Batches of these models that were over within `withinMs`, or since the node first came, of which something was leased since then; the
   * last first, as a node would ask: `deadlineInMs` is their whole window.
   */
  abstract pastWork(
    nodeId: string,
    models: readonly string[],
    withinMs: number,
    limitJobs: number,
  ): Promise<PastWorkFound>;

  /**
   * Cuts and leases in one statement per wish list; wishes that lost a race are missing from the answer. With `shards`: all
   * of them, unless another holds one of the shards by now, or there are none; then nothing. Without: no fence, for who is alone.
   * The first rows of a gang are taken for as many nodes as it begins on, or not at all.
   */
  abstract grant(
    wishes: readonly LeaseWish[],
    leaseMs: number,
    shards?: readonly HeldShard[],
  ): Promise<readonly GrantedLease[]>;
  abstract inputs(lease: LeaseRef, from: number): Promise<LeaseInputs | null>;
  abstract view(lease: LeaseRef): Promise<LeaseView | null>;
  abstract start(lease: LeaseRef): Promise<Moved>;
  /**
   * One UPDATE for all: extends the leases that are still alive under their epoch and node; returns those. One that got no
   * further (granted, started, a checkpoint with rows) for `stallMs` is left to its clock: a checkpoint until then saves it. So is
   * one that had to be handed back by now: nothing but its last row saves that.
   */
  abstract extend(
    held: readonly { readonly nodeId: string; readonly lease: LeaseRef }[],
    leaseMs: number,
    stallMs?: number,
  ): Promise<readonly LeaseRef[]>;
  /**
   * Which of the leases a node claims (with their nonces) are still its own, got further within `stallMs` and had not to be handed
   * back by now, or are committed; those are extended.
   */
  abstract resume(
    nodeId: string,
    held: readonly HeldLease[],
    leaseMs: number,
    stallMs?: number,
  ): Promise<readonly LeaseRef[]>;
  /** Uncommitted leases of the batch road, older than `graceMs`, that are a node's by our books and not in what it says it holds. */
  abstract missing(nodeId: string, held: readonly HeldLease[], graceMs: number): Promise<readonly LeaseRef[]>;

  /** Writes rows [previous checkpoint, n) and the checkpoint; with `last` also delivers the task and files its verification. */
  abstract checkpoint(
    lease: LeaseRef,
    rows: readonly DeliveredRow[],
    at: {
      readonly n: number;
      readonly root: string;
      readonly signature: string;
      readonly last: boolean;
      readonly drawHeight: bigint | null;
    },
  ): Promise<Moved>;
  abstract delivered(lease: LeaseRef): Promise<readonly DeliveredRow[]>;

  /**
   * refuse | yield | lose. Rows up to the last checkpoint become a delivered task of their own; the rest goes back to the queue.
   *
   * `saidBy` is the node whose word it is: it counts for that node's own leases alone. And what was committed, by its node or at its
   * last checkpoint, is not given back any more, by nobody: its verdict comes.
   */
  abstract giveBack(
    lease: LeaseRef,
    event: 'refuse' | 'yield' | 'lose',
    why: string,
    saidBy?: string,
  ): Promise<Moved<{ readonly keptRows: number; readonly requeuedRows: number }>>;
  /** Its node was asked to hand it back: it is extended for so long and no longer. The first word stands, whoever says it again. */
  abstract yieldWithin(lease: LeaseRef, withinMs: number): Promise<Moved>;
  /** Leases that died of silence, of no progress for `stallMs`, or because they were asked for and kept, oldest first. */
  abstract expired(limit: number, stallMs?: number): Promise<readonly DeadLease[]>;
  /** After an outage of the coordinator: everything alive then gets the outage + `graceMs` more; no progress was to be made in it. */
  abstract forgiveOutage(graceMs: number): Promise<{ readonly outageMs: number; readonly extended: number }>;
  abstract heartbeatSelf(): Promise<void>;

  /** The height a draw goes by, for a lease that was cut before its node committed: the first one given stays. */
  abstract fixDrawHeight(lease: LeaseRef, height: bigint): Promise<bigint>;
  abstract saveDraw(lease: LeaseRef, seed: string, rows: readonly number[]): Promise<Moved>;
  abstract saveFindings(lease: LeaseRef, findings: readonly AuditFinding[]): Promise<void>;
  abstract findings(lease: LeaseRef): Promise<readonly AuditFinding[]>;
  /** Nodes whose audits were proven wrong get no work and no audits for so long, with the reason. Doing it again changes nothing but the time. */
  abstract benchAuditors(wrong: readonly WrongAuditor[], benchMs: number): Promise<void>;
  abstract accept(acceptance: Acceptance): Promise<Accepted>;
  /** Voids the lease and every other unaccepted lease of the node; benches it. Its auditors are owed what they are due all the same. */
  abstract reject(
    lease: LeaseRef,
    why: string,
    badRows: number,
    benchMs: number,
    audits?: readonly AuditDue[],
  ): Promise<Moved<{ readonly voided: readonly LeaseRef[] }>>;

  /** Moves whatever of a job is past its deadline, cancelled, or not covered by its payer's orders any more to its end; releases what is left of the hold. Returns jobs to finalise. */
  abstract expireJobs(): Promise<readonly string[]>;
  /** Leases of jobs that ended so long ago, whose payloads no live job, receipt or dispute needs; not yet {@link markSwept}. */
  abstract sweepable(olderThanMs: number, limit: number): Promise<readonly SweepableLease[]>;
  abstract markSwept(leases: readonly LeaseRef[]): Promise<void>;

  /** Fails queued tasks with too many attempts: their rows fail with a reason. */
  abstract failPoison(attemptsMax: number): Promise<number>;
}
