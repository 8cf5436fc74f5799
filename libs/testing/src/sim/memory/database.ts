import type {
  AccountRef,
  Amount,
  AuditDue,
  JobState,
  LedgerEntry,
  Rates,
  RowState,
  TaskState,
  Usage,
  VerifyLevel,
} from '@freehold/domain';
import type {
  AuditFinding,
  BatchFault,
  ChainEvent,
  DeliveredRow,
  FileRecord,
  JobView,
  Topic,
  Trust,
} from '@freehold/market';
import type { SignedOffer } from '@freehold/protocol';

/** A row with this key is there already. */
export class UniqueViolation extends Error {}
/** A row would say what its table does not allow. */
export class CheckViolation extends Error {}

export interface OrgRow {
  readonly id: string;
  readonly trust: Trust;
  readonly wallet: string | null;
}

export interface JobRow {
  readonly id: string;
  readonly orgId: string;
  readonly keyId: string;
  readonly state: JobState;
  readonly endpoint: string;
  readonly model: string | null;
  readonly tuned: JobView['tuned'];
  readonly inputFileId: string;
  readonly outputFileId: string | null;
  readonly errorFileId: string | null;
  readonly completionWindow: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly verify: VerifyLevel;
  readonly region: string | null;
  readonly priority: number;
  readonly trust: Trust;
  readonly cap: Amount | null;
  readonly charged: Amount;
  readonly rateCaps: Rates;
  readonly counted: Amount | null;
  readonly worst: Usage | null;
  readonly rowCount: number;
  readonly nextRow: number;
  readonly rowsSucceeded: number;
  readonly rowsFailed: number;
  readonly rowsEnded: number;
  readonly faults: readonly BatchFault[] | null;
  readonly deadlineMs: number;
  readonly createdMs: number;
  readonly cancellingMs: number | null;
  readonly enteredMs: Readonly<Partial<Record<JobState, number>>>;
}

export interface JobRowRow {
  readonly jobId: string;
  readonly rowNo: number;
  readonly customId: string;
  readonly offset: number;
  readonly length: number;
  readonly state: RowState;
  readonly errorCode: string | null;
  readonly errorMessage: string | null;
  readonly result: {
    readonly task: string;
    readonly epoch: number;
    readonly offset: number;
    readonly length: number;
  } | null;
}

export interface TaskRow {
  readonly id: string;
  readonly jobId: string;
  readonly orgId: string;
  readonly rowFrom: number;
  readonly rowTo: number;
  readonly state: TaskState;
  readonly epoch: number;
  readonly attempts: number;
  readonly lastNode: string | null;
  readonly why: string | null;
}

export interface LeaseRow {
  readonly task: string;
  readonly epoch: number;
  readonly jobId: string;
  readonly nodeId: string;
  readonly nonce: string;
  readonly model: string;
  readonly digest: string;
  readonly engineClass: string;
  readonly rates: Rates;
  readonly grantedMs: number;
  readonly leaseUntilMs: number;
  readonly progressedMs: number;
  /** Until when it is extended, where its node was asked to hand it back. */
  readonly yieldByMs: number | null;
  /** How many rows were signed when it was asked. */
  readonly askedRows: number | null;
  readonly checkpointRows: number;
  readonly checkpointRoot: string | null;
  readonly checkpointSignature: string | null;
  readonly committed: boolean;
  readonly drawHeight: bigint | null;
  readonly drawSeed: string | null;
  readonly drawRows: readonly number[] | null;
  readonly outcome: string | null;
  readonly why: string | null;
}

export interface NodeRow {
  readonly id: string;
  readonly address: string;
  readonly payout: string;
  readonly offer: SignedOffer;
  readonly firstSeenMs: number;
  readonly lastSeenMs: number;
  readonly rowsAccepted: number;
  readonly rowsAudited: number;
  readonly rowsBad: number;
  readonly leasesLost: number;
  readonly benchedUntilMs: number;
  readonly benchedWhy: string | null;
  readonly speed: Readonly<Record<string, number>>;
}

export interface ReceiptRow {
  readonly task: string;
  readonly epoch: number;
  readonly jobId: string;
  readonly nodeId: string;
  readonly payout: string;
  readonly root: string;
  readonly rows: number;
  readonly audited: number;
  readonly usage: Usage;
  readonly charge: Amount;
  readonly fee: Amount;
  readonly document: Readonly<Record<string, unknown>>;
}

/** What an auditor is owed for one lease, and the task whose fee paid it. */
export interface AuditReceiptRow extends AuditDue {
  readonly id: string;
  readonly task: string;
  readonly epoch: number;
  readonly payout: string;
  readonly paidBy: string | null;
}

export interface VoucherRow {
  readonly task: string;
  readonly kind: 'work' | 'audit';
  readonly nodeId: string;
  readonly book: string;
  readonly epoch: bigint;
  readonly payee: string;
  readonly order: number;
  readonly cumulative: Amount;
  readonly total: Amount;
  readonly gross: Amount;
  readonly net: Amount;
  readonly receipt: string | null;
  readonly signature: string | null;
  readonly isKept: boolean;
}

export interface OutboxRow {
  readonly id: string;
  readonly topic: Topic;
  readonly ids: Readonly<Record<string, string | number>>;
  readonly notBeforeMs: number;
  readonly claimedUntilMs: number;
  readonly sentMs: number | null;
  readonly doneMs: number | null;
}

export interface EntryRow extends LedgerEntry {
  readonly turn: number;
}

export interface TaskEventRow {
  readonly task: string;
  readonly epoch: number;
  readonly from: TaskState | null;
  readonly to: TaskState;
  readonly why: string | null;
  readonly atMs: number;
}

export interface ChainOrderRow {
  readonly order: number;
  readonly params: string;
  readonly orgId: string | null;
  readonly isOperator: boolean;
  readonly payer: string;
  readonly reserved: Amount;
  readonly free: Amount;
  readonly spent: Amount;
  readonly state: 'open' | 'closing' | 'refunded' | 'gone';
  readonly closeEpoch: bigint | null;
}

export interface ChainPayeeRow {
  readonly payee: string;
  readonly index: number | null;
  readonly epoch: bigint | null;
  readonly total: Amount;
}

export interface ChainEpochRow {
  readonly epoch: bigint;
  readonly state: 'open' | 'closed' | 'posted' | 'final';
  readonly debits: ReadonlyMap<number, bigint>;
  readonly credits: ReadonlyMap<string, bigint>;
}

export interface ChainEventRow {
  readonly event: ChainEvent;
  readonly applied: number;
  readonly removed: boolean;
  readonly entries: readonly LedgerEntry[];
}

export interface ChainTransactionRow {
  readonly id: string;
  readonly nonce: number;
  readonly purpose: string;
  readonly ref: string;
  readonly raw: string;
  readonly state: 'saved' | 'sent' | 'confirmed' | 'failed';
  readonly block: { readonly number: bigint; readonly hash: string } | null;
}

/** Rows by key. Rows are never changed in place, so that what was read stays what it was. */
export class Table<Row extends object> {
  readonly #name: string;
  readonly #rows = new Map<string, Row>();
  readonly #changed: (undo: () => void) => void;

  constructor(name: string, changed: (undo: () => void) => void) {
    this.#name = name;
    this.#changed = changed;
  }

  get size(): number {
    return this.#rows.size;
  }

  get(key: string): Row | undefined {
    return this.#rows.get(key);
  }

  must(key: string): Row {
    const row = this.#rows.get(key);
    if (row === undefined) throw new Error(`${this.#name} ${key} is not there`);
    return row;
  }

  all(): Row[] {
    return [...this.#rows.values()];
  }

  where(holds: (row: Row) => boolean): Row[] {
    const found: Row[] = [];
    for (const row of this.#rows.values()) if (holds(row)) found.push(row);
    return found;
  }

  insert(key: string, row: Row): void {
    if (this.#rows.has(key)) throw new UniqueViolation(`${this.#name} ${key} is there already`);
    this.#set(key, row);
  }

  put(key: string, row: Row): void {
    this.#set(key, row);
  }

  update(key: string, change: Partial<Row>): Row {
    const row = { ...this.must(key), ...change };
    this.#set(key, row);
    return row;
  }

  delete(key: string): void {
    const before = this.#rows.get(key);
    if (before === undefined) return;
    this.#rows.delete(key);
    this.#changed(() => this.#rows.set(key, before));
  }

  #set(key: string, row: Row): void {
    const before = this.#rows.get(key);
    this.#rows.set(key, row);
    this.#changed(() => {
      if (before === undefined) this.#rows.delete(key);
      else this.#rows.set(key, before);
    });
  }
}

export interface DatabaseGround {
  readonly nowMs: () => number;
  readonly uuid: () => string;
  /** Asked at every write: what it throws ends the transaction, which then never was. */
  readonly interrupt?: () => void;
}

/** The market's truth in memory: the tables of `migrations/` as far as the batch road and its money need them. */
export class MemoryDatabase {
  readonly ground: DatabaseGround;
  readonly #changed = (undo: () => void): void => {
    this.#undo?.push(undo);
    if (this.#undo !== null) this.ground.interrupt?.();
  };
  #undo: (() => void)[] | null = null;
  #serial = 0;

  readonly orgs = new Table<OrgRow>('org', this.#changed);
  readonly files = new Table<FileRecord>('file', this.#changed);
  readonly jobs = new Table<JobRow>('job', this.#changed);
  readonly rows = new Table<JobRowRow>('job_row', this.#changed);
  readonly tasks = new Table<TaskRow>('task', this.#changed);
  readonly leases = new Table<LeaseRow>('lease', this.#changed);
  readonly nodes = new Table<NodeRow>('node', this.#changed);
  readonly delivered = new Table<{ readonly rows: readonly DeliveredRow[] }>('delivered_row', this.#changed);
  readonly audits = new Table<AuditFinding & { readonly task: string; readonly epoch: number }>('audit', this.#changed);
  readonly receipts = new Table<ReceiptRow>('receipt', this.#changed);
  readonly auditReceipts = new Table<AuditReceiptRow>('audit_receipt', this.#changed);
  readonly vouchers = new Table<VoucherRow>('voucher', this.#changed);
  readonly accounts = new Table<AccountRef & { readonly balance: bigint }>('account', this.#changed);
  readonly entries = new Table<EntryRow>('ledger_transaction', this.#changed);
  readonly outbox = new Table<OutboxRow>('outbox', this.#changed);
  readonly taskEvents = new Table<TaskEventRow>('task_event', this.#changed);
  readonly identities = new Table<{
    readonly bodyHash: string;
    readonly route: string;
    readonly subject: string;
    readonly atMs: number;
  }>('idempotency', this.#changed);
  readonly facts = new Table<{ readonly value: string; readonly atMs: number }>('coordinator', this.#changed);
  readonly chainBlocks = new Table<{ readonly number: bigint; readonly hash: string }>('chain_block', this.#changed);
  readonly chainEvents = new Table<ChainEventRow>('chain_event', this.#changed);
  readonly chainOrders = new Table<ChainOrderRow>('chain_order', this.#changed);
  readonly chainPayees = new Table<ChainPayeeRow>('chain_payee', this.#changed);
  readonly chainEpochs = new Table<ChainEpochRow>('chain_epoch', this.#changed);
  readonly chainBooks = new Table<{ readonly book: string; readonly delegate: string; readonly isAlive: boolean }>(
    'chain_book',
    this.#changed,
  );
  readonly shortages = new Table<AccountRef & { readonly amount: bigint }>('chain_shortage', this.#changed);
  readonly chainTransactions = new Table<ChainTransactionRow>('chain_transaction', this.#changed);

  constructor(ground: DatabaseGround) {
    this.ground = ground;
  }

  get nowMs(): number {
    return this.ground.nowMs();
  }

  /** Numbers that only rise; one that was taken and not used is lost, as in any database. */
  serial(): number {
    this.#serial += 1;
    return this.#serial;
  }

  /** All of it or nothing, and nobody sees a half. */
  transaction<T>(work: () => T): T {
    if (this.#undo !== null) return work();
    this.#undo = [];
    try {
      return work();
    } catch (error) {
      const undo = this.#undo;
      this.#undo = null;
      for (const step of undo.reverse()) step();
      throw error;
    } finally {
      this.#undo = null;
    }
  }

  file(topic: Topic, ids: Readonly<Record<string, string | number>>): void {
    const id = String(this.serial());
    this.outbox.insert(id, { id, topic, ids, notBeforeMs: this.nowMs, claimedUntilMs: 0, sentMs: null, doneMs: null });
  }
}
