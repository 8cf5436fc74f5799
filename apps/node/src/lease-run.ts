import { addUsage, GrowingTree, type Usage } from '@freehold/domain';
import { baseOfTrainer, EngineError, type Engine, type Signer } from '@freehold/market';
import {
  CHECKPOINT_MS,
  CHECKPOINT_ROWS,
  leaseKey,
  rowLeafHash,
  usageOf,
  type HeldLease,
  type WorkOutput,
} from '@freehold/protocol';
import { checkpointMessage, Changes, type RowsCall } from '@freehold/wiring/node';
import { type JournalInput, type LeaseHead, type LeaseJournal, type Restored } from './journal.ts';
import type { Release, Slots } from './slots.ts';

/** A row that an engine could not run is tried again this often before the lease is given back as failed. */
const ROW_ATTEMPTS_MAX = 3;
const ROW_RETRY_MS = 200;
/** Inputs that came since this lease last had none waiting; a coordinator sends at most a window of 8 MiB ahead. */
const INPUT_BYTES_MAX = 64 * 1_048_576;
/** Rows begun or finished that are not on the disk yet: a disk that hangs stops the engine, not the memory. */
const UNWRITTEN_ROWS_MAX = 128;
/** Results in memory that were not sent yet; what does not fit is read back from the journal. */
const UNSENT_ROWS_MAX = 256;
/**
 * Who yields sends what is done for so long, then signs what has gone out and gives the rest up: half of what a coordinator gives at least,
 * and over a line of usual speed far more than there is.
 */
const YIELD_SEND_MS = 15_000;

export interface LeaseSurroundings {
  readonly engine: Engine;
  readonly slots: Slots;
  readonly signer: Signer;
  /** A lease whose next row finds no slot for this long, because of chat, hands its rows back. */
  readonly starvedMs: number;
  /** Brings a checkpoint to the process that leads the lease, before its segment is delivered. */
  readonly bring: (peer: string, sha256: string) => Promise<void>;
  /** Told after each batch of rows is on the disk, with how many are done. */
  readonly onRows: (key: string, done: number) => void;
  /** Rows are about to leave under our signature: all of them, or those until here. */
  readonly onSigning: (head: LeaseHead, isWhole: boolean) => void;
  readonly onEnd: (run: LeaseRun) => void;
}

type RunState = 'running' | 'yielding' | 'yielded' | 'committed' | 'failed' | 'dropped';
type Input = Omit<JournalInput, 'type'>;

/**
 * One lease on this node. Rows are run as inputs come, whether or not the coordinator is there; a stream that is attached
 * gets what is done, in order. Life: running → committed (the coordinator has all rows under a signed root) · running →
 * yielding → yielded (the slot was wanted) · running → failed (the engine broke) · any → dropped (the coordinator said so).
 */
export class LeaseRun {
  readonly head: LeaseHead;
  readonly key: string;
  readonly #journal: LeaseJournal;
  readonly #around: LeaseSurroundings;
  readonly #changes = new Changes();
  readonly #stop = new AbortController();
  readonly #leaves: Uint8Array[] = [];
  readonly #usages: Usage[] = [];
  #usage: Usage = {};
  #signedRows = 0;
  readonly #inputs = new Map<number, Input>();
  readonly #finished = new Map<number, WorkOutput>();
  readonly #unsent = new Map<number, WorkOutput>();
  #state: RunState = 'running';
  #failure: { readonly code: string; readonly message: string; readonly retryable: boolean } | null = null;
  #yieldedMs = Number.POSITIVE_INFINITY;
  #received = 0;
  #next = 0;
  #inFlight = 0;
  /** Rows that have a slot. */
  #holding = 0;
  #inputBytes = 0;
  #call: RowsCall | null = null;
  #flushing: Promise<void> = Promise.resolve();
  #isFlushing = false;

  constructor(
    journal: LeaseJournal,
    around: LeaseSurroundings,
    restored: Pick<Restored, 'inputs' | 'results'> = { inputs: [], results: [] },
  ) {
    this.head = journal.head;
    this.key = leaseKey(journal.head);
    this.#journal = journal;
    this.#around = around;
    for (const { leaf, output } of restored.results) this.#keepLeaf(leaf, output);
    this.#next = this.done;
    this.#received = Math.max(this.done, restored.inputs.length);
    for (const input of restored.inputs) if (input.index >= this.done) this.#inputs.set(input.index, input);
  }

  /** Segments of training are signed one by one: a death costs one at most. */
  get #checkpointRows(): number {
    return baseOfTrainer(this.head.model) === null ? CHECKPOINT_ROWS : 1;
  }

  get done(): number {
    return this.#leaves.length;
  }
  get state(): RunState {
    return this.#state;
  }
  get bytes(): number {
    return this.#journal.bytes;
  }
  /** Whether rows are still to be run here. */
  get active(): boolean {
    return this.#state === 'running' || this.#state === 'yielding';
  }

  /** Everything it was given is run and nobody gives it more: its coordinator is away, perhaps for ever. */
  get starved(): boolean {
    return this.active && !this.attached && this.#inFlight === 0 && this.#inputs.size === 0;
  }

  held(): HeldLease {
    const { task, epoch, nonce } = this.head;
    return { task, epoch, nonce, done: this.done, committed: this.#state === 'committed' };
  }

  /** What all rows that are done used. */
  get usage(): Usage {
    return this.#usage;
  }

  /** Rows that the coordinator was sent under our signature since this process has the lease. */
  get signedRows(): number {
    return this.#signedRows;
  }

  /** What the first `rows` rows used; null when they are not known here. */
  usageOf(rows: number): Usage | null {
    return rows > this.#usages.length ? null : this.#usages.slice(0, rows).reduce(addUsage, {});
  }

  /** Runs what is there. Called once after making the run, and whenever an input came. */
  pump(): void {
    while (
      this.#state === 'running' &&
      this.#inFlight < this.#around.slots.total &&
      this.#next - this.done < UNWRITTEN_ROWS_MAX
    ) {
      const input = this.#inputs.get(this.#next);
      if (input === undefined) return;
      this.#next += 1;
      this.#inFlight += 1;
      void this.#row(input)
        .catch((error: unknown) => this.#fail(error))
        .finally(() => {
          this.#inFlight -= 1;
          this.#changes.raise();
          this.pump();
        });
    }
  }

  /** Serves the coordinator's stream until either end closes it. A newer stream takes over from an older one. */
  async serve(call: RowsCall): Promise<void> {
    this.#call?.abort('a newer stream of this lease came');
    this.#call = call;
    this.#changes.raise();
    try {
      await call.send({ type: 'started' });
      // Whoever has sent everything goes on taking in until the coordinator closes: it may not have read the last word yet.
      await Promise.race([this.#takeIn(call), this.#sendOut(call).then(forEver)]);
    } finally {
      if (this.#call === call) this.#call = null;
      this.#changes.raise();
    }
  }

  /** Hands back what is not done: rows under way are given up, finished ones that can be sent stay valid under a last checkpoint. */
  yield(): void {
    if (this.#state !== 'running') return;
    this.#state = 'yielding';
    this.#yieldedMs = performance.now();
    this.#stop.abort();
    this.#changes.raise();
  }

  /** Whether a stream is attached that can be told things. */
  get attached(): boolean {
    return this.#call !== null;
  }

  /** Resolves when a run has said its last word and the coordinator has closed the stream on it, or after `timeoutMs`. */
  async settled(timeoutMs: number): Promise<void> {
    const timer = setTimeout(() => this.#changes.raise(), timeoutMs);
    const deadlineMs = performance.now() + timeoutMs - 5;
    await this.#changes.until(() => (!this.active && this.#call === null) || performance.now() >= deadlineMs);
    clearTimeout(timer);
  }

  /** Ends everything and wipes the payloads; results, if there are any, go to `keepUnder` where that is given. */
  async drop(keepUnder: string | null): Promise<void> {
    // After a last word the stream is closed in order, so that the word is read.
    if (this.active) this.#call?.abort('dropped');
    this.#state = 'dropped';
    this.#stop.abort();
    this.#changes.raise();
    await this.#flushing;
    if (keepUnder === null || this.done === 0) await this.#journal.wipe();
    else await this.#journal.keepResults(keepUnder);
  }

  /** Stops without wiping: the process ends, the journal stays. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#state = this.#state === 'committed' ? 'committed' : 'dropped';
    this.#call?.abort('the node is closing');
    this.#changes.raise();
    await this.#flushing;
    await this.#journal.close();
  }

  async #takeIn(call: RowsCall): Promise<void> {
    for (;;) {
      const message = await call.receive();
      if (message === null) return;
      // Inputs go on coming until the coordinator has read the last word: they are nobody's fault.
      if (message.type === 'ack' || message.index < this.#received || !this.active) continue;
      if (message.index !== this.#received || message.index >= this.head.rows) {
        return call.abort(`input ${message.index} came where ${this.#received} of ${this.head.rows} was due`);
      }
      await this.#changes.until(() => this.#inputBytes <= INPUT_BYTES_MAX || !this.active);
      if (!this.active) continue;
      this.#received += 1;
      this.#inputs.set(message.index, message);
      this.#inputBytes += await this.#journal.addInput(message);
      this.pump();
    }
  }

  /** Results in order, checkpoints between them, and a last word. */
  async #sendOut(call: RowsCall): Promise<void> {
    const tree = new GrowingTree();
    let sent = call.lease.from;
    for (const leaf of this.#leaves.slice(0, sent)) tree.addHash(leaf);
    let signed = sent;
    let signedMs = performance.now();
    const checkpoint = async (last: boolean): Promise<void> => {
      const root = `0x${Buffer.from(tree.root()).toString('hex')}`;
      const signature = await this.#around.signer.sign('LeaseCheckpoint', checkpointMessage(this.head, sent, root));
      this.#around.onSigning(this.head, last);
      await call.send({ type: 'checkpoint', n: sent, root, signature, last });
      signed = sent;
      this.#signedRows = sent;
      signedMs = performance.now();
    };
    const beganMs = signedMs;
    // Who was without a line when it was asked has its time from when it is back.
    const isOver = (): boolean => performance.now() - Math.max(this.#yieldedMs, beganMs) >= YIELD_SEND_MS;
    const isToSend = (): boolean => this.done > sent && !isOver();
    const hasLastWord = (): boolean => !isToSend() && this.#hasLastWord(sent);
    const wake = setInterval(() => this.#changes.raise(), CHECKPOINT_MS / 4);
    try {
      for (;;) {
        const isDue = (): boolean => sent > signed && performance.now() - signedMs >= CHECKPOINT_MS;
        await this.#changes.until(() => this.#call !== call || isToSend() || isDue() || hasLastWord());
        if (this.#call !== call) return;
        while (isToSend() && sent - signed < this.#checkpointRows && !isDue()) {
          const output = this.#unsent.get(sent) ?? (await this.#journal.result(sent));
          if (output.kind === 'segment') await this.#around.bring(call.peer, output.checkpoint);
          await call.send({ type: 'result', index: sent, output });
          this.#unsent.delete(sent);
          tree.addHash(this.#leaf(sent));
          sent += 1;
        }
        if (sent === this.head.rows) {
          await checkpoint(true);
          this.#end('committed');
          return;
        }
        if (sent - signed >= this.#checkpointRows || isDue()) await checkpoint(false);
        if (!hasLastWord()) continue;
        if (sent > signed) await checkpoint(false);
        await this.#lastWord(call);
        return;
      }
    } finally {
      clearInterval(wake);
    }
  }

  #hasLastWord(sent: number): boolean {
    if (this.#inFlight > 0 || this.#isFlushing) return false;
    return sent === this.head.rows || this.#state === 'yielding' || this.#failure !== null;
  }

  async #lastWord(call: RowsCall): Promise<void> {
    if (this.#failure !== null) await call.send({ type: 'error', ...this.#failure });
    else await call.send({ type: 'yielded' });
    await call.close();
    this.#end(this.#failure !== null ? 'failed' : 'yielded');
  }

  #end(state: RunState): void {
    this.#state = state;
    this.#unsent.clear();
    this.#changes.raise();
    this.#around.onEnd(this);
  }

  async #row(input: Input): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      const release = await this.#slot();
      if (release === null) return;
      this.#holding += 1;
      try {
        const output = await this.#runOn(input);
        this.#finished.set(input.index, output);
        break;
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        if (!(error instanceof EngineError) || !error.retryable || attempt >= ROW_ATTEMPTS_MAX) throw error;
        await new Promise((resolve) => setTimeout(resolve, ROW_RETRY_MS * 2 ** attempt));
      } finally {
        this.#holding -= 1;
        release();
      }
    }
    this.#flushSoon();
  }

  /** A slot for the next row; null when the run ended, or when chat has kept all of them for too long. */
  async #slot(): Promise<Release | null> {
    const { slots, starvedMs } = this.#around;
    for (;;) {
      const release = await slots.takeRow(starvedMs, this.#stop.signal);
      if (release !== null || this.#stop.signal.aborted) return release;
      // Waiting behind one's own rows, or another lease's, is no starvation.
      if (this.#holding === 0 && slots.chats > 0) {
        this.yield();
        return null;
      }
    }
  }

  async #runOn({ work }: Input): Promise<WorkOutput> {
    const { engine } = this.#around;
    if (work.kind === 'segment') return await engine.segment(this.head.model, work, this.#stop.signal);
    if (work.kind === 'chat') return await engine.chat(this.head.model, work, () => undefined, this.#stop.signal);
    return await engine.embed(this.head.model, work, this.#stop.signal);
  }

  /** Rows do not wait for the disk: while one batch is written, the next one gathers. */
  #flushSoon(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    this.#flushing = (async () => {
      try {
        while (this.#finished.has(this.done) && this.#state !== 'dropped') await this.#flush();
      } catch (error) {
        this.#fail(error);
      } finally {
        this.#isFlushing = false;
        this.#changes.raise();
        this.pump();
      }
    })();
  }

  /** Writes what is finished without a gap, all at once: many rows, one wait for the disk. */
  async #flush(): Promise<void> {
    const batch: { index: number; leaf: Uint8Array; output: WorkOutput }[] = [];
    for (let index = this.done; this.#finished.has(index) && this.#state !== 'dropped'; index += 1) {
      const output = this.#finished.get(index);
      const input = this.#inputs.get(index);
      if (output === undefined || input === undefined) break;
      batch.push({ index, leaf: rowLeafHash(this.head.task, input.rowNo, input.work, output), output });
    }
    if (batch.length === 0) return;
    await this.#journal.addResults(batch);
    for (const { index, leaf, output } of batch) {
      this.#finished.delete(index);
      this.#inputs.delete(index);
      this.#keepLeaf(leaf, output);
      if (this.#unsent.size < UNSENT_ROWS_MAX) this.#unsent.set(index, output);
    }
    if (this.#inputs.size === 0) this.#inputBytes = 0;
    this.#changes.raise();
    this.#around.onRows(this.key, this.done);
  }

  #keepLeaf(leaf: Uint8Array, output: WorkOutput): void {
    this.#leaves.push(leaf);
    const usage = usageOf(output);
    this.#usages.push(usage);
    this.#usage = addUsage(this.#usage, usage);
  }

  #leaf(index: number): Uint8Array {
    const leaf = this.#leaves[index];
    if (leaf === undefined) throw new RangeError(`leaf ${index} of ${this.#leaves.length}`);
    return leaf;
  }

  #fail(error: unknown): void {
    if (this.#stop.signal.aborted || this.#failure !== null) return;
    const known = error instanceof EngineError;
    this.#failure = {
      code: known ? error.code.slice(0, 64) : 'NODE_FAILED',
      message: (error instanceof Error ? error.message : String(error)).slice(0, 512),
      retryable: known ? error.retryable : true,
    };
    this.#stop.abort();
    this.#changes.raise();
  }
}

/** The other half of the conversation decides when the stream is over. */
async function forEver(): Promise<never> {
  return await new Promise<never>(() => undefined);
}
