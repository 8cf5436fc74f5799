import { GrowingTree } from '@freehold/domain';
import {
  rowLeafHash,
  taskIdBytes,
  usageOf,
  type LeaseRef,
  type RequestWork,
  type Work,
  type WorkOutput,
} from '@freehold/protocol';
import type { Blocks } from './ports/blocks.ts';
import type { DeliveredRow, GrantedLease, LeaseStore, LeaseView } from './ports/lease-store.ts';
import { fileObject, inputObject } from './ports/file-store.ts';
import type { ObjectStore } from './ports/object-store.ts';
import type { ProviderLink, RowInput, RowSink, RowsEnd, SignedCheckpoint } from './ports/provider-link.ts';
import type { SignatureCheck, Signer } from './ports/signer.ts';
import { rowFault } from './check-row.ts';
import { segmentObject } from './segment-object.ts';
import { LeaseTraining } from './training/lease-training.ts';
import { objectsOf, type TrainingPorts } from './training/segment-works.ts';
import { toHex } from './hex.ts';

/** Input lines read from the object store at a time. */
const INPUT_ROWS_READ = 64;

export interface RunLeasePorts {
  readonly leases: LeaseStore;
  readonly objects: ObjectStore;
  readonly link: ProviderLink;
  readonly signer: Signer;
  readonly signatures: SignatureCheck;
  readonly blocks: Blocks;
  /** The normalised work of one input line; the line was validated when the job was accepted. */
  readonly readWork: (line: Uint8Array, endpoint: string) => RequestWork;
  /** Needed for fine-tunes, and for requests that name an adapter. */
  readonly training?: TrainingPorts;
  /** Told how many rows became durable, to measure the node. */
  readonly onRows?: (rows: number) => void;
  /** Told how many more rows its node signed for. */
  readonly onSigned?: (rows: number) => void;
  /** Why its node yields, when it was asked to; null: because its owner wanted to. */
  readonly whyYielded?: () => string | null;
}

/** The object a row's input line lies in: the batch's input file, or the one line of a streamed request. */
export function inputObjectOf(jobId: string, inputFile: string): string {
  return inputFile === '' ? inputObject(jobId) : fileObject(inputFile);
}

/** The work of a row: what its line says, answered by the job's adapter where it has one. */
export function withAdapter(work: RequestWork, adapter: string | null): RequestWork {
  return adapter === null || work.kind !== 'chat' ? work : { ...work, adapter };
}

/**
 * Streams a lease to its node and its rows into the segment, from the last checkpoint on. Rows are durable before they are
 * acknowledged, roots are recomputed before a checkpoint is believed, and the commit is countersigned with a chain height so
 * that nobody can know which rows will be drawn.
 */
export async function runLease(ports: RunLeasePorts, lease: GrantedLease, signal: AbortSignal): Promise<RowsEnd> {
  const delivery = await LeaseDelivery.open(ports, lease);
  if (delivery === null) return { end: 'failed', code: 'STALE', message: 'the lease was moved before it started' };
  const grant = {
    task: lease.task,
    epoch: lease.epoch,
    nodeId: lease.nodeId,
    nonce: lease.nonce,
    model: lease.model,
    digest: lease.digest,
    engineClass: lease.engineClass,
    rates: lease.rates,
    rows: lease.rowTo - lease.rowFrom,
  };
  const end: RowsEnd = delivery.paused
    ? { end: 'yielded' }
    : await ports.link.runLease(grant, delivery.from, delivery.inputs(), delivery, signal);
  await delivery.close(end);
  if (delivery.fault === null && delivery.paused) {
    // As if its owner had wanted the machine: what is signed for is verified and paid, and nobody is blamed for the rest.
    await ports.leases.giveBack(lease, 'yield', 'the job was paused');
    return { end: 'yielded' };
  }
  await settleEnd(ports, lease, end, delivery.fault);
  return delivery.fault === null ? end : { end: 'failed', code: 'FORGED', message: delivery.fault };
}

/** A refusal or a yield is the owner's right; a broken engine costs an attempt; a cut is judged by the lease's clock alone. */
async function settleEnd(
  { leases, whyYielded }: Pick<RunLeasePorts, 'leases' | 'whyYielded'>,
  lease: GrantedLease,
  end: RowsEnd,
  fault: string | null,
): Promise<void> {
  if (fault !== null) await leases.giveBack(lease, 'lose', fault);
  else if (end.end === 'refused') await leases.giveBack(lease, 'refuse', end.code);
  else if (end.end === 'yielded') await leases.giveBack(lease, 'yield', whyYielded?.() ?? 'the owner wanted the slot');
  else if (end.end === 'failed') await leases.giveBack(lease, 'lose', `${end.code}: ${end.message}`);
}

class LeaseDelivery implements RowSink {
  /** What the node did that no honest node does, once it has done it. */
  fault: string | null = null;
  /** The stream was ended at a checkpoint, or not begun, because nothing more is to be trained now. */
  paused: boolean;
  readonly #ports: RunLeasePorts;
  readonly #lease: GrantedLease;
  readonly #address: string;
  readonly #tree = new GrowingTree();
  readonly #works = new Map<number, Work>();
  #pending: DeliveredRow[] = [];
  #offset: number;
  readonly from: number;

  readonly #training: LeaseTraining | null;

  private constructor(
    ports: RunLeasePorts,
    view: LeaseView,
    training: LeaseTraining | null,
    delivered: readonly DeliveredRow[],
  ) {
    this.#ports = ports;
    this.#lease = view;
    this.#training = training;
    this.paused = training?.paused === true;
    this.#address = view.address;
    for (const row of delivered) this.#tree.addHash(row.leafHash);
    const last = delivered.at(-1);
    this.#offset = last === undefined ? 0 : last.offset + last.length;
    this.from = delivered.length;
  }

  static async open(ports: RunLeasePorts, lease: GrantedLease): Promise<LeaseDelivery | null> {
    const view = await ports.leases.view(lease);
    if (view === null || view.taskEpoch !== lease.epoch || view.committed) return null;
    const started = await ports.leases.start(lease);
    if (!started.moved && view.state !== 'running') return null;
    // One that has just been started was never streamed: nothing came of it yet.
    const delivered = started.moved ? [] : await ports.leases.delivered(lease);
    const training = view.kind === 'fine-tune' ? await LeaseTraining.open(ports.training, view, delivered) : null;
    return new LeaseDelivery(ports, view, training, delivered);
  }

  async *inputs(): AsyncIterable<RowInput> {
    for await (const input of this.#training?.inputs(this.from) ?? this.#lines()) {
      this.#ports.training?.desk.lend(this.#lease.nodeId, objectsOf(input.work));
      this.#works.set(input.index, input.work);
      yield input;
    }
  }

  /** What the stream was needed for beyond itself ends with it. */
  async close(end: RowsEnd): Promise<void> {
    await this.#training?.close(this.paused ? 'paused' : end);
  }

  async *#lines(): AsyncIterable<RowInput> {
    const inputs = await this.#ports.leases.inputs(this.#lease, this.from);
    if (inputs === null) return;
    for (let at = 0; at < inputs.rows.length; at += INPUT_ROWS_READ) {
      const places = inputs.rows.slice(at, at + INPUT_ROWS_READ);
      const lines = await this.#ports.objects.readPieces(inputObjectOf(this.#lease.jobId, inputs.inputFile), places);
      for (const [i, place] of places.entries()) {
        const work = withAdapter(this.#ports.readWork(lines[i] ?? new Uint8Array(), inputs.endpoint), inputs.adapter);
        yield { index: place.rowNo - this.#lease.rowFrom, rowNo: place.rowNo, work };
      }
    }
  }

  async results(batch: readonly { readonly index: number; readonly output: WorkOutput }[]): Promise<void> {
    const pieces: Uint8Array[] = [];
    const rows: DeliveredRow[] = [];
    let offset = this.#offset;
    for (const { index, output } of batch) {
      const work = this.#works.get(index);
      const rowNo = this.#lease.rowFrom + index;
      if (work === undefined || index !== this.from + this.#received + rows.length)
        throw new Error(`row ${index} came out of order`);
      const fault = rowFault(work, output) ?? (await this.#training?.fault(work, output)) ?? null;
      if (fault !== null) {
        this.fault = `row ${rowNo}: ${fault}`;
        throw new Error(this.fault);
      }
      const piece = new TextEncoder().encode(JSON.stringify(output));
      const leafHash = rowLeafHash(this.#lease.task, rowNo, work, output);
      rows.push({
        rowNo,
        offset,
        length: piece.length,
        leafHash,
        succeeded: output.kind !== 'failed',
        usage: usageOf(output),
      });
      pieces.push(piece);
      offset += piece.length;
      this.#works.delete(index);
    }
    await this.#ports.objects.append(segmentObject(this.#lease), this.#offset, pieces);
    this.#offset = offset;
    this.#received += rows.length;
    for (const row of rows) this.#tree.addHash(row.leafHash);
    this.#pending.push(...rows);
    await this.#training?.durable(batch.map(({ output }) => output));
    this.#ports.onRows?.(rows.length);
  }
  #received = 0;

  async checkpoint(checkpoint: SignedCheckpoint): Promise<boolean> {
    const fault = await this.#checkpointFault(checkpoint);
    if (fault !== null) {
      this.fault = fault;
      return false;
    }
    const drawHeight = checkpoint.last ? await this.#ports.blocks.height() : null;
    const moved = await this.#ports.leases.checkpoint(this.#lease, this.#pending, { ...checkpoint, drawHeight });
    if (!moved.moved) return false;
    this.#ports.onSigned?.(this.#pending.length);
    this.#pending = [];
    await this.#training?.signed(checkpoint.n);
    if (drawHeight !== null) await countersign(this.#ports, this.#lease, checkpoint.root, drawHeight);
    this.paused = !checkpoint.last && this.#training?.paused === true;
    return !this.paused;
  }

  async #checkpointFault(checkpoint: SignedCheckpoint): Promise<string | null> {
    const rows = this.#lease.rowTo - this.#lease.rowFrom;
    const done = this.from + this.#received;
    if (checkpoint.n !== done) return `a checkpoint over ${checkpoint.n} rows after ${done}`;
    if (checkpoint.last !== (done === rows))
      return `a ${checkpoint.last ? 'commit' : 'checkpoint'} at row ${done} of ${rows}`;
    const root = toHex(this.#tree.root());
    if (checkpoint.root !== root) return `a root ${checkpoint.root} over rows that hash to ${root}`;
    const message = {
      task: toHex(taskIdBytes(this.#lease.task)),
      epoch: BigInt(this.#lease.epoch),
      n: BigInt(checkpoint.n),
      root,
    };
    const signer = await this.#ports.signatures.recover('LeaseCheckpoint', message, checkpoint.signature);
    return signer === this.#address ? null : `a checkpoint signed by ${signer ?? 'nobody'} instead of ${this.#address}`;
  }
}

/** The coordinator's receipt of a commitment. Deterministic, so that it can be made again after a crash. */
export async function countersign(
  ports: Pick<RunLeasePorts, 'signer' | 'link'>,
  lease: LeaseRef & { readonly nodeId: string },
  root: string,
  height: bigint,
): Promise<string> {
  const signature = await ports.signer.sign('CommitCountersign', {
    task: toHex(taskIdBytes(lease.task)),
    epoch: BigInt(lease.epoch),
    root,
    height,
  });
  ports.link.tell(lease.nodeId, {
    type: 'countersigned',
    lease: { task: lease.task, epoch: lease.epoch },
    root,
    height: String(height),
    signature,
  });
  return signature;
}
