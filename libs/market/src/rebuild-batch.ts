import { GrowingTree, sameBytes } from '@freehold/domain';
import { KeptReceipt, ReceiptDocument, rowLeafHash, type BatchLine, type WorkOutput } from '@freehold/protocol';
import type { GoodReceipt, ReceiptFault } from './check-receipts.ts';
import { resultLine } from './finalize-batch.ts';
import { fromHex } from './hex.ts';
import { withAdapter } from './run-lease.ts';

/** What a node kept of one accepted lease: its receipt, and the results in row order. */
export interface KeptLease {
  readonly kept: unknown;
  readonly outputs: readonly WorkOutput[];
}

export interface Rebuilt {
  /** Lines of the output and error files, by row number. */
  readonly done: ReadonlyMap<
    number,
    { readonly succeeded: boolean; readonly line: Record<string, unknown>; readonly task: string }
  >;
  /** Row numbers that nobody was paid for: the work that is left. */
  readonly rest: readonly number[];
  readonly refused: readonly { readonly task: string; readonly why: string }[];
}

/**
 * Rebuilds a batch from its input file and what nodes kept, trusting neither nodes nor whoever handed it over: a row counts as
 * done when an accepted receipt commits to exactly this input and this output. What is left is new work for another
 * coordinator; what is done was promised on the old one's book and is cashed there, so no row is paid for twice.
 *
 * @param job The id that the lost coordinator gave the batch.
 * @param check Holds a receipt to the old book's delegate (`checkReceipt` with its anchor).
 */
export async function rebuildBatch(
  job: string,
  rows: readonly BatchLine[],
  leases: readonly KeptLease[],
  check: (kept: unknown) => Promise<GoodReceipt | ReceiptFault>,
  createdAtMs: number,
): Promise<Rebuilt> {
  const done = new Map<number, { succeeded: boolean; line: Record<string, unknown>; task: string }>();
  const refused: { task: string; why: string }[] = [];
  for (const lease of leases) {
    const verdict = await check(lease.kept);
    if (!verdict.good) {
      refused.push({ task: verdict.task, why: `${verdict.field}: ${verdict.why}` });
      continue;
    }
    const document = KeptReceipt.parse(lease.kept).receipt;
    if (document['job'] !== job) continue;
    const receipt = ReceiptDocument.parse(document);
    const why = unfit(receipt, rows, lease.outputs, done);
    if (why !== null) refused.push({ task: receipt.task, why });
    else
      for (let rowNo = receipt.rows.from; rowNo < receipt.rows.to; rowNo += 1)
        done.set(rowNo, { ...lineOf(job, rowNo, rows, receipt, lease.outputs, createdAtMs), task: receipt.task });
  }
  const rest = rows.map((_, rowNo) => rowNo).filter((rowNo) => !done.has(rowNo));
  return { done, rest, refused };
}

/** Why a lease's results are not those that its receipt commits to, over this input; null when they are. */
function unfit(
  receipt: ReceiptDocument,
  rows: readonly BatchLine[],
  outputs: readonly WorkOutput[],
  done: ReadonlyMap<number, { readonly task: string }>,
): string | null {
  const { from, to } = receipt.rows;
  if (to > rows.length) return `it is about rows up to ${to}; the input file has ${rows.length}`;
  if (outputs.length < to - from) return `${outputs.length} of its ${to - from} results are here`;
  const tree = new GrowingTree();
  for (let rowNo = from; rowNo < to; rowNo += 1) {
    const twice = done.get(rowNo);
    if (twice !== undefined) return `row ${rowNo} is accepted under task ${twice.task} already`;
    const [row, output] = [rows[rowNo], outputs[rowNo - from]];
    if (row === undefined || output === undefined) return `row ${rowNo} is not here`;
    tree.addHash(rowLeafHash(receipt.task, rowNo, withAdapter(row.work, adapterOf(receipt)), output));
  }
  if (sameBytes(tree.root(), fromHex(receipt.commitment.root))) return null;
  return 'these inputs and results are not those that the receipt commits to';
}

/** Of the fine-tune that answered; the input names it by a name that says nothing about its bytes. */
function adapterOf(receipt: ReceiptDocument): string | null {
  return typeof receipt['adapter'] === 'string' ? receipt['adapter'] : null;
}

function lineOf(
  job: string,
  rowNo: number,
  rows: readonly BatchLine[],
  receipt: ReceiptDocument,
  outputs: readonly WorkOutput[],
  createdAtMs: number,
): { readonly succeeded: boolean; readonly line: Record<string, unknown> } {
  const [row, output] = [rows[rowNo], outputs[rowNo - receipt.rows.from]];
  if (row === undefined || output === undefined) throw new RangeError(`row ${rowNo} was checked and is not here`);
  const succeeded = output.kind !== 'failed';
  const result = { digest: String(receipt['modelDigest']), engineClass: String(receipt['engineClass']) };
  const line = resultLine(
    { id: job, createdAtMs, model: row.model },
    {
      rowNo,
      customId: row.customId,
      state: succeeded ? 'succeeded' : 'failed',
      errorCode: null,
      errorMessage: null,
      result,
    },
    output,
    row.encoding,
  );
  return { succeeded, line };
}
