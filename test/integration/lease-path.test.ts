import { describe, expect, it } from '@jest/globals';
import { createSigner } from '@freehold/chain';
import { GrowingTree } from '@freehold/domain';
import { runLease, toHex, verifyResult, type Auditors, type RowInput, type RowsEnd } from '@freehold/market';
import { rowLeafHash, taskIdBytes, type WorkOutput } from '@freehold/protocol';
import {
  answer,
  auditor,
  commit,
  deliver,
  DOMAIN,
  panel,
  playedLease,
  ROWS,
  stage,
  type Play,
} from './played-lease.ts';

const signal = new AbortController().signal;

describe('a lease from delivery to verdict', () => {
  const here = stage();

  const scene = (play: Play, auditors: Auditors) => playedLease(here, play, auditors);

  it('commits, is countersigned, drawn, audited and paid once, however often it is verified', async () => {
    const { jobId, lease, link, ports } = await scene(deliver(), panel(auditor('other', 'node')));
    expect(await runLease(ports, lease, signal)).toEqual({ end: 'committed' });
    expect(link.told.map((message) => message.type)).toEqual(['countersigned']);
    const outcomes = await Promise.all([verifyResult(ports, lease, signal), verifyResult(ports, lease, signal)]);
    expect(outcomes.filter((o) => o.done && o.outcome === 'accepted')).toHaveLength(1);
    expect(await here.world.rowStates(jobId)).toEqual({ succeeded: ROWS });
    const receipts = await here.server.database.query<{
      audited: number;
      charge: string;
      document: Record<string, unknown>;
    }>('SELECT audited, charge, document FROM receipt WHERE job_id = $1', [jobId]);
    expect(receipts).toHaveLength(1);
    expect(receipts[0]).toMatchObject({ audited: ROWS, charge: String(4 * ROWS) });
    expect(receipts[0]?.document).toMatchObject({ draw: { by: 'coordinator', height: '41' }, audited: ROWS });
  });

  it('is void when two auditors find one bad row: nothing of it is delivered or paid, its node gets no work', async () => {
    const { jobId, nodeId, lease, link, ports } = await scene(
      deliver([7]),
      panel(auditor('other', 'node'), auditor('third', 'node')),
    );
    await runLease(ports, lease, signal);
    expect(await verifyResult(ports, lease, signal)).toEqual({ done: true, outcome: 'rejected' });
    expect(await here.world.rowStates(jobId)).toEqual({ pending: ROWS });
    expect(await here.server.database.query('SELECT 1 FROM receipt WHERE job_id = $1', [jobId])).toEqual([]);
    const record = (await here.world.store.nodeRecords([nodeId])).get(nodeId);
    expect(record?.benchedForMs).toBeGreaterThan(0);
    expect(record?.rowsBad).toBe(1);
    expect(link.told.at(-1)).toMatchObject({ type: 'rejected' });
  });

  it("is accepted when a lying auditor is outvoted by another and the coordinator's own engine", async () => {
    const { lease, ports } = await scene(
      deliver(),
      panel(auditor('liar', 'node', 'the contrary'), auditor('honest', 'node'), auditor('coordinator', 'coordinator')),
    );
    await runLease(ports, lease, signal);
    expect(await verifyResult(ports, lease, signal)).toEqual({ done: true, outcome: 'accepted', endedJob: true });
  });

  it('is given back without a stain when one auditor accuses and nobody can break the tie', async () => {
    const { nodeId, lease, ports } = await scene(
      deliver(),
      panel(auditor('liar', 'node', 'accuses'), auditor('honest', 'node')),
    );
    await runLease(ports, lease, signal);
    expect(await verifyResult(ports, lease, signal)).toEqual({ done: true, outcome: 'rejected' });
    const record = (await here.world.store.nodeRecords([nodeId])).get(nodeId);
    expect(record).toMatchObject({ rowsBad: 0 });
    expect(record?.benchedForMs).toBeLessThanOrEqual(0);
  });

  it.each([
    ['of which enough were looked at', 200, 1],
    ['of which nobody looked at any', 0, ROWS],
  ])('is drawn by what is known of its node: after a thousand rows %s', async (_what, rowsAudited, audited) => {
    const { jobId, nodeId, lease, ports } = await scene(
      deliver(),
      panel(auditor('one', 'node'), auditor('two', 'node')),
    );
    await here.server.database.query('UPDATE node SET rows_accepted = 1000, rows_audited = $2 WHERE id = $1', [
      nodeId,
      rowsAudited,
    ]);
    await runLease(ports, lease, signal);
    expect(await verifyResult(ports, lease, signal)).toMatchObject({ outcome: 'accepted' });
    expect(await here.server.database.query('SELECT audited FROM receipt WHERE job_id = $1', [jobId])).toEqual([
      { audited },
    ]);
  });

  it('says `audited: 0` when nobody can run its model again', async () => {
    const { jobId, lease, ports } = await scene(deliver(), panel());
    await runLease(ports, lease, signal);
    expect(await verifyResult(ports, lease, signal)).toEqual({ done: true, outcome: 'accepted', endedJob: true });
    expect(await here.server.database.query('SELECT audited, draw FROM receipt WHERE job_id = $1', [jobId])).toEqual([
      { audited: 0, draw: 'none' },
    ]);
  });

  it.each<[string, Play]>([
    [
      'a root over other rows',
      async (rows, grant, sink, key) => {
        const outputs = rows.map((row) => answer(row));
        await sink.results(rows.map((row, i) => ({ index: row.index, output: outputs[i] as WorkOutput })));
        const moved = await commit(
          rows,
          outputs.map((_, i) => answer(rows[i] as RowInput, i === 3)),
          grant,
          sink,
          key,
        );
        return { end: 'failed', code: 'X', message: String(moved) };
      },
    ],
    [
      "another node's signature",
      async (rows, grant, sink) => {
        const outputs = rows.map((row) => answer(row));
        await sink.results(rows.map((row, i) => ({ index: row.index, output: outputs[i] as WorkOutput })));
        const moved = await commit(rows, outputs, grant, sink, createSigner(`0x${'77'.repeat(32)}`, DOMAIN));
        return { end: 'failed', code: 'X', message: String(moved) };
      },
    ],
    [
      'more units than the input can have',
      async (rows, _grant, sink) => {
        const inflated = {
          ...(answer(rows[0] as RowInput) as Extract<WorkOutput, { kind: 'embedding' }>),
          unitsIn: 1_000_000,
        };
        return sink.results([{ index: 0, output: inflated }]).then(
          (): RowsEnd => ({ end: 'committed' }),
          (error: unknown): RowsEnd => ({ end: 'failed', code: 'X', message: String(error) }),
        );
      },
    ],
    [
      'a commit before its last row',
      async (rows, grant, sink, key) => {
        const outputs = rows.map((row) => answer(row));
        await sink.results(rows.slice(0, 5).map((row, i) => ({ index: row.index, output: outputs[i] as WorkOutput })));
        const tree = new GrowingTree();
        for (const [i, row] of rows.slice(0, 5).entries())
          tree.addHash(rowLeafHash(grant.task, row.rowNo, row.work, outputs[i] as WorkOutput));
        const root = toHex(tree.root());
        const signature = await key.sign('LeaseCheckpoint', {
          task: toHex(taskIdBytes(grant.task)),
          epoch: BigInt(grant.epoch),
          n: 5n,
          root,
        });
        const moved = await sink.checkpoint({ n: 5, root, signature, last: true });
        return { end: 'failed', code: 'X', message: String(moved) };
      },
    ],
  ])('is taken back from a node that sends %s', async (_what, play) => {
    const { jobId, lease, ports } = await scene(play, panel());
    expect(await runLease(ports, lease, signal)).toMatchObject({ end: 'failed', code: 'FORGED' });
    expect(await here.world.rowStates(jobId)).toEqual({ pending: ROWS });
    const [task] = await here.server.database.query<{ state: string; epoch: number }>(
      'SELECT state, epoch FROM task WHERE id = $1',
      [lease.task],
    );
    expect(task).toEqual({ state: 'queued', epoch: 2 });
  });
});
