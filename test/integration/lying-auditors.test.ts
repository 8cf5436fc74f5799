import { describe, expect, it } from '@jest/globals';
import { drawSeed, isTested, secondLook } from '@freehold/domain';
import { runLease, verifyResult, type Auditor, type Auditors } from '@freehold/market';
import { auditor, deliver, OpenBlocks, panel, playedLease, ROWS, stage, type Play } from './played-lease.ts';

const signal = new AbortController().signal;
const DAY_MS = 86_400_000;

describe('auditors that lie', () => {
  const here = stage();

  const scene = async (play: Play, auditors: Auditors) => {
    const played = await playedLease(here, play, auditors);
    await runLease(played.ports, played.lease, signal);
    return played;
  };
  type Scene = Awaited<ReturnType<typeof scene>>;

  /** Verifies with a secret whose draw is as wanted: the root is signed before anybody knows the secret. */
  const verify = async ({ ports, lease }: Scene, isWanted: (seed: Uint8Array) => boolean) => {
    const root = Buffer.from((await here.world.store.view(lease))?.checkpointRoot?.slice(2) ?? '', 'hex');
    const block = Buffer.from((await new OpenBlocks().hash(42n))?.slice(2) ?? '', 'hex');
    const secrets = Array.from({ length: 2_000 }, (_, i) => Buffer.alloc(32, `secret ${i} `));
    const secret = secrets.find((candidate) => isWanted(drawSeed(block, candidate, root)));
    if (secret === undefined) throw new Error('no secret gives such a draw');
    return verifyResult({ ...ports, drawSecret: () => secret }, lease, signal);
  };
  const bench = async (node: string) => {
    const record = (await here.world.store.nodeRecords([node])).get(node);
    return { forMs: record?.benchedForMs ?? 0, why: record?.benchedWhy ?? null };
  };
  const duesOf = (node: string) => here.server.database.query('SELECT 1 FROM audit_receipt WHERE node_id = $1', [node]);

  it('against the work are overruled by the own engine, benched for a day with the reason, and not paid', async () => {
    const liar = await here.world.node();
    const own = auditor('coordinator', 'coordinator');
    const played = await scene(deliver(), panel(auditor(liar, 'node', 'accuses'), own));
    const isUntested = (seed: Uint8Array): boolean => !isTested(seed, liar) && secondLook(seed, [0]).length === 0;
    expect(await verify(played, isUntested)).toEqual({ done: true, outcome: 'accepted', endedJob: true });
    const { forMs, why } = await bench(liar);
    expect(forMs).toBeGreaterThan(DAY_MS - 60_000);
    expect(why).toMatch(/^audit: called row \d+ of task [0-9a-f-]+ bad, which is proven good$/);
    expect(await duesOf(liar)).toEqual([]);
    expect((await bench(played.nodeId)).forMs).toBe(0);
  });

  it('for a friend are found when a passed lease is looked at twice: both are benched, nothing is delivered', async () => {
    const friend = await here.world.node();
    const own = auditor('coordinator', 'coordinator');
    const played = await scene(
      deliver([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
      panel(auditor(friend, 'node', 'passes'), own),
    );
    const isTwice = (seed: Uint8Array): boolean => !isTested(seed, friend) && secondLook(seed, [0]).length > 0;
    expect(await verify(played, isTwice)).toEqual({ done: true, outcome: 'rejected' });
    expect((await bench(friend)).why).toMatch(/called row \d+ of task .* good, which is proven bad$/);
    expect((await bench(played.nodeId)).why).toMatch(/^audit: \d+ bad rows proven$/);
    expect(await here.world.rowStates(played.jobId)).toEqual({ pending: ROWS });
  });

  it('by not looking pass a row that was made wrong on purpose; another says the word that counts', async () => {
    const [idle, awake] = [await here.world.node(), await here.world.node()];
    const played = await scene(deliver(), panel(auditor(idle, 'node', 'passes'), auditor(awake, 'node')));
    const isOnTest = (seed: Uint8Array): boolean =>
      isTested(seed, idle) && isTested(seed, awake) && secondLook(seed, [0]).length === 0;
    expect(await verify(played, isOnTest)).toEqual({ done: true, outcome: 'accepted', endedJob: true });
    expect((await bench(idle)).why).toBe('audit: passed a row that was made wrong to see whether it looks');
    expect((await bench(awake)).forMs).toBe(0);
    const heard = await here.server.database.query<{ auditor: string }>(
      'SELECT DISTINCT auditor FROM audit WHERE task_id = $1',
      [played.lease.task],
    );
    expect(heard).toEqual([{ auditor: awake }]);
    const rows = await here.server.database.query('SELECT 1 FROM audit WHERE task_id = $1', [played.lease.task]);
    expect(rows).toHaveLength(ROWS);
  });

  it('are told from one that goes away between the wrong row and the right one: that is asked again about all', async () => {
    const shy = auditor(await here.world.node(), 'node');
    let calls = 0;
    const goesAway: Auditor = {
      ...shy,
      score: (...asked) => {
        calls += 1;
        return calls === 2 ? Promise.resolve(null) : shy.score(...asked);
      },
    };
    const played = await scene(deliver(), panel(goesAway));
    const isOnTest = (seed: Uint8Array): boolean => isTested(seed, shy.id);
    expect(await verify(played, isOnTest)).toMatchObject({ done: false, why: 'no auditor answered' });
    expect(await verify(played, isOnTest)).toEqual({ done: true, outcome: 'accepted', endedJob: true });
    expect((await bench(shy.id)).forMs).toBe(0);
  });
});
