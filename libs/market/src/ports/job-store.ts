import type { Amount, JobKind, JobState, Rates, RowState, TaskState, Usage, VerifyLevel } from '@freehold/domain';
import type { LeaseRef } from '@freehold/protocol';
import type { Trust } from './account-store.ts';
import type { Listed, Once, Page, RequestIdentity } from './once.ts';

/** One fault of a batch's input file. */
export interface BatchFault {
  readonly code: string;
  readonly message: string;
  readonly param: string | null;
  /** From 1; null when it is about the whole file. */
  readonly line: number | null;
}

export interface JobView {
  readonly id: string;
  readonly orgId: string;
  readonly kind: JobKind;
  readonly state: JobState;
  readonly endpoint: string;
  /** What nodes serve. */
  readonly model: string | null;
  /** The fine-tune of the requester's that answers its rows, over `model`; null: the model itself. */
  readonly tuned: { readonly name: string; readonly adapter: string } | null;
  readonly inputFileId: string | null;
  readonly outputFileId: string | null;
  readonly errorFileId: string | null;
  readonly completionWindow: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly verify: VerifyLevel;
  readonly region: string | null;
  readonly poolId: string | null;
  readonly trust: Trust;
  readonly cap: Amount | null;
  readonly charged: Amount;
  readonly rateCaps: Rates;
  /** The most that its rows can count as, at prices posted as it began; null: before that, or of a fine-tune. */
  readonly counted: Amount | null;
  /** What its rows, or its training, can count as at most; null: before it began, and of one that began when nobody wrote that down. */
  readonly worst: Usage | null;
  /** What its accepted rows were counted as, once a batch is over; null before. */
  readonly usage: Usage | null;
  readonly rowCount: number;
  readonly rowsSucceeded: number;
  readonly rowsFailed: number;
  readonly rowsEnded: number;
  readonly faults: readonly BatchFault[] | null;
  readonly deadlineAtMs: number;
  readonly createdAtMs: number;
  /** When it entered each state; a state it never was in is missing. */
  readonly enteredAtMs: Readonly<Partial<Record<JobState, number>>>;
}

export interface NewBatch {
  readonly id: string;
  readonly orgId: string;
  readonly keyId: string;
  readonly endpoint: string;
  readonly inputFileId: string;
  readonly completionWindow: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly verify: VerifyLevel;
  readonly region: string | null;
  readonly priority: number;
  readonly deadlineInMs: number;
}

export interface NewRow {
  readonly rowNo: number;
  readonly customId: string;
  readonly offset: number;
  readonly length: number;
}

/** What a batch starts with, as its file says. */
export interface StartPlan {
  readonly model: string;
  readonly tuned: JobView['tuned'];
  readonly rowCount: number;
  readonly cap: Amount;
  readonly rateCaps: Rates;
  /** See {@link JobView.counted}. */
  readonly counted: Amount | null;
  /** See {@link JobView.worst}. */
  readonly worst: Usage;
  /** Names of the blocks that all its prompts begin with. */
  readonly promptBlocks: readonly string[];
}

/** A batch that was read before it was filed. */
export interface ReadBatch extends NewBatch {
  readonly plan: StartPlan;
  /** All of them. */
  readonly rows: readonly NewRow[];
  /** From its start to its last row; null where nobody's speed is known. */
  readonly expectedS: number | null;
}

/** `refused`: nothing was written. */
export type Begun = Once<JobView> | { readonly outcome: 'refused' };

/** Money was asked for and not given. */
export type NoMoney = { readonly why: 'insufficient-balance' | 'daily-cap'; readonly balance: Amount };

export type Started =
  { readonly started: true } | ({ readonly started: false } & (NoMoney | { readonly why: 'moved-by-another' }));

/** The lease of a request on the stream road. */
export interface StreamLease {
  readonly nodeId: string;
  /** 16 bytes, 0x…. */
  readonly nonce: string;
  readonly digest: string;
  readonly engineClass: string;
  readonly rates: Rates;
}

export interface NewStream extends StreamLease {
  readonly jobId: string;
  readonly taskId: string;
  readonly orgId: string;
  readonly keyId: string;
  readonly kind: 'chat' | 'embedding';
  readonly endpoint: string;
  readonly model: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly verify: VerifyLevel;
  readonly region: string | null;
  readonly cap: Amount;
  readonly rateCaps: Rates;
  readonly inputLength: number;
  readonly leaseMs: number;
  readonly identity: RequestIdentity | null;
}

export type StreamOpened =
  | { readonly opened: true }
  | ({ readonly opened: false } & (
      NoMoney | { readonly why: 'key-reused' } | { readonly why: 'repeated'; readonly jobId: string }
    ));

/** Where the answer of a finished (or running) streamed job lies. */
export interface StreamAnswer {
  readonly state: RowState;
  readonly taskState: TaskState;
  readonly lease: LeaseRef;
  readonly digest: string;
  readonly engineClass: string;
  /** Null while nothing was delivered. */
  readonly piece: { readonly offset: number; readonly length: number } | null;
}

/** A row with where its input and its result lie. */
export interface ResultRow {
  readonly rowNo: number;
  readonly customId: string;
  readonly inputOffset: number;
  readonly inputLength: number;
  readonly state: RowState;
  readonly errorCode: string | null;
  readonly errorMessage: string | null;
  /** The winning lease and its piece of the segment; null for rows that ended without an answer. */
  readonly result:
    | (LeaseRef & {
        readonly offset: number;
        readonly length: number;
        readonly digest: string;
        readonly engineClass: string;
        /** When the lease ended: for a row with an answer, when that was accepted. */
        readonly endedAtMs: number;
      })
    | null;
}

export interface OutputFile {
  readonly id: string;
  readonly filename: string;
  readonly bytes: number;
  readonly sha256: Uint8Array;
}

export interface TaskMove {
  readonly taskId: string;
  readonly epoch: number;
  readonly from: TaskState | null;
  readonly to: TaskState;
  readonly why: string | null;
  readonly atMs: number;
}

export interface ReceiptView {
  readonly taskId: string;
  readonly epoch: number;
  readonly rows: number;
  readonly charge: Amount;
  readonly acceptedAtMs: number;
  readonly document: Readonly<Record<string, unknown>>;
}

/** Jobs as their requesters see them. Every read takes the organisation: what is another's is not there. */
export abstract class JobStore {
  /** The job in state `validating`, its `validate` message and the request's identity commit together. */
  abstract submitBatch(batch: NewBatch, identity: RequestIdentity | null): Promise<Once<JobView>>;
  /**
   * The job in state `in_progress` with its rows, its hold, its `place` message and the request's identity, all at once; or nothing,
   * where its file is not there or the money is not: what is submitted to be validated is told why.
   */
  abstract beginBatch(batch: ReadBatch, identity: RequestIdentity | null): Promise<Begun>;
  abstract get(orgId: string, jobId: string): Promise<JobView | null>;
  abstract list(orgId: string, page: Page): Promise<Listed<JobView> | null>;
  /** For handlers of the queue, which have an id and no caller. */
  abstract find(jobId: string): Promise<JobView | null>;

  /** Adds rows while the job is validating; rows that are there already are left alone. False when it is not validating any more. */
  abstract addRows(jobId: string, rows: readonly NewRow[]): Promise<boolean>;
  /** validating → in_progress with hold and `place` message. */
  abstract start(jobId: string, plan: StartPlan): Promise<Started>;
  /** validating → failed; the rows go. */
  abstract fail(jobId: string, faults: readonly BatchFault[]): Promise<boolean>;
  /** in_progress → cancelling (or validating → cancelled at once); the lease clock then ends what runs. Null when there is no such batch; what is over stays as it is. */
  abstract cancel(orgId: string, jobId: string): Promise<{ readonly cancelled: boolean; readonly job: JobView } | null>;

  abstract results(jobId: string, fromRow: number, limit: number): Promise<readonly ResultRow[]>;
  /** finalizing → its end: records the files, moves the job to its end and releases what is left of the hold: one transaction. False when done before. */
  abstract finish(
    jobId: string,
    files: { readonly output: OutputFile | null; readonly errors: OutputFile | null },
  ): Promise<boolean>;

  /** Which adapter answers the rows of a job. Set before anything of it is answered. */
  abstract setAdapter(jobId: string, adapter: string): Promise<void>;
  /** Job, row, task, lease and hold of a request on the stream road, in one transaction. */
  abstract openStream(stream: NewStream): Promise<StreamOpened>;
  /** The node refused before the first byte: the task goes to another under the next epoch. Null when it was taken away. */
  abstract moveStream(lease: LeaseRef, why: string, to: StreamLease, leaseMs: number): Promise<LeaseRef | null>;
  /** The request ends without an answer: lease lost, task and job failed, hold released. False when it had ended before. */
  abstract failStream(lease: LeaseRef, code: string, message: string): Promise<boolean>;
  abstract streamAnswer(orgId: string, jobId: string): Promise<StreamAnswer | null>;

  abstract timeline(orgId: string, jobId: string, limit: number): Promise<readonly TaskMove[]>;
  abstract receipts(orgId: string, jobId: string, limit: number): Promise<readonly ReceiptView[]>;
}
