import { createSigner } from '@freehold/chain';
import { addUsage, dueFor, GrowingTree, type Rates, type Usage } from '@freehold/domain';
import { fileObject, segmentObject, toHex, type DeliveredRow, type GrantedLease, type JobView } from '@freehold/market';
import { rowLeafHash, taskIdBytes, usageOf, workOfLineBytes, type LeaseRef, type WorkOutput } from '@freehold/protocol';
import type { ApiHouse } from './api-house.ts';
import { answerTo, DOMAIN } from './fake-link.ts';

/** What of a batch is leased; absent: all its rows, for the first time. */
interface Part {
  readonly rows?: number;
  /** What came back, under the epoch that is its turn. */
  readonly again?: Pick<LeaseRef, 'task' | 'epoch'>;
}

const DIGEST = `sha256:${'5'.repeat(64)}`;

/** Leases a batch's rows to a node, or what came back of them. */
export async function leaseTo(
  house: ApiHouse,
  jobId: string,
  nodeId: string,
  { rows, again }: Part = {},
): Promise<GrantedLease> {
  const job = await house.jobs.find(jobId);
  if (job === null || job.model === null) throw new Error('nothing to lease');
  const wish = {
    ...{
      jobId,
      taskId: again?.task ?? null,
      epoch: again?.epoch ?? 1,
      rowFrom: 0,
      rowTo: rows ?? job.rowCount,
      nodeId,
    },
    ...{ model: job.model, digest: DIGEST, engineClass: 'test-engine/cpu/F32', rates: ratesOf(job) },
    nonce: `0x${'12'.repeat(16)}`,
  };
  const [lease] = await house.leases.grant([wish], 60_000);
  if (lease === undefined) throw new Error('no lease');
  return lease;
}

function ratesOf({ endpoint }: Pick<JobView, 'endpoint'>): Rates {
  return endpoint === '/v1/embeddings'
    ? { embeddingToken: 1_000_000n }
    : { inputToken: 1_000_000n, outputToken: 2_000_000n };
}

/** Stands in for scheduler and node: leases a batch's rows, delivers them under a signed checkpoint and has them accepted. */
export async function acceptRows(house: ApiHouse, jobId: string, part: Part = {}): Promise<void> {
  const job = await house.jobs.find(jobId);
  const [node] = house.link.nodes();
  if (job === null || node === undefined || job.inputFileId === null) throw new Error('nothing to accept');
  const rowTo = part.rows ?? job.rowCount;
  const rates = ratesOf(job);
  const lease = await leaseTo(house, jobId, node.id, part);
  await house.leases.start(lease);
  const inputs = await house.leases.inputs(lease, 0);
  const lines = await house.objects.readPieces(fileObject(job.inputFileId), inputs?.rows ?? []);
  const tree = new GrowingTree();
  const delivered: DeliveredRow[] = [];
  let offset = 0;
  for (const [index, line] of lines.entries()) {
    const work = workOfLineBytes(line);
    const asksToFail = work.kind === 'chat' && work.messages[0]?.content === 'fail me';
    const output: WorkOutput = asksToFail
      ? { kind: 'failed', code: 'context_length_exceeded', message: 'too long' }
      : answerTo(work);
    const piece = Buffer.from(JSON.stringify(output));
    await house.objects.append(segmentObject(lease), offset, [piece]);
    const leafHash = rowLeafHash(lease.task, index, work, output);
    tree.addHash(leafHash);
    delivered.push({
      rowNo: index,
      offset,
      length: piece.length,
      leafHash,
      succeeded: output.kind !== 'failed',
      usage: usageOf(output),
    });
    offset += piece.length;
  }
  const root = toHex(tree.root());
  const signature = await createSigner(`0x${'1'.padStart(64, '0')}`, DOMAIN).sign('LeaseCheckpoint', {
    task: toHex(taskIdBytes(lease.task)),
    epoch: BigInt(lease.epoch),
    n: BigInt(rowTo),
    root,
  });
  const moved = await house.leases.checkpoint(lease, delivered, {
    n: rowTo,
    root,
    signature,
    last: true,
    drawHeight: 1n,
  });
  const usage = delivered.reduce<Usage>((sum, row) => addUsage(sum, row.usage), {});
  const accepted = await house.leases.accept({
    ...lease,
    rows: rowTo,
    rowsSucceeded: delivered.filter((row) => row.succeeded).length,
    audited: 0,
    draw: 'none',
    usage,
    due: dueFor(usage, rates),
    feeBps: 300,
    root,
    document: (charge) => ({ charge: String(charge) }),
  });
  if (!moved.moved || !accepted.moved) throw new Error('the rows were not accepted');
}
