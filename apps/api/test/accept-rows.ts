import { createSigner } from '@freehold/chain';
import { addUsage, dueFor, GrowingTree, type Usage } from '@freehold/domain';
import { fileObject, segmentObject, toHex, type DeliveredRow } from '@freehold/market';
import { rowLeafHash, taskIdBytes, usageOf, workOfLineBytes, type WorkOutput } from '@freehold/protocol';
import type { ApiHouse } from './api-house.ts';
import { answerTo, DOMAIN } from './fake-link.ts';

/** Stands in for scheduler and node: leases a batch's rows, delivers them under a signed checkpoint and has them accepted. */
export async function acceptRows(house: ApiHouse, jobId: string, rows?: number): Promise<void> {
  const job = await house.jobs.find(jobId);
  const [node] = house.link.nodes();
  if (job === null || node === undefined || job.model === null || job.inputFileId === null)
    throw new Error('nothing to accept');
  const rowTo = rows ?? job.rowCount;
  const rates =
    job.endpoint === '/v1/embeddings'
      ? { embeddingToken: 1_000_000n }
      : { inputToken: 1_000_000n, outputToken: 2_000_000n };
  const wish = {
    jobId,
    taskId: null,
    epoch: 1,
    rowFrom: 0,
    rowTo,
    nodeId: node.id,
    model: job.model,
    digest: `sha256:${'5'.repeat(64)}`,
    engineClass: 'test-engine/cpu/F32',
    rates,
    nonce: `0x${'12'.repeat(16)}`,
  };
  const [lease] = await house.leases.grant([wish], 60_000);
  if (lease === undefined) throw new Error('no lease');
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
    epoch: 1n,
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
