import { describe, expect, it } from '@jest/globals';
import { chance, PRIORITY_MAX, starvationBoundMs } from '@freehold/domain';
import { DECISION_JOBS_MAX, KeptDemand } from './kept-demand.ts';
import type { OpenDemand } from './ports/lease-store.ts';

const HOUR_MS = 3_600_000;

/** What waits, by job, as Postgres would say it; and how often it was asked. */
class Store {
  readonly jobs = new Map<string, OpenDemand>();
  nowMs = 0;
  questions = 0;
  readonly clock = { nowMs: () => this.nowMs };

  demandOf(ids: readonly string[]): Promise<readonly OpenDemand[]> {
    this.questions += 1;
    return Promise.resolve(ids.flatMap((id) => this.jobs.get(id) ?? []));
  }
  demandPage(after: string | null, limit: number): Promise<readonly OpenDemand[]> {
    this.questions += 1;
    const ids = [...this.jobs.keys()].filter((id) => after === null || id > after).sort();
    return Promise.resolve(ids.slice(0, limit).flatMap((id) => this.jobs.get(id) ?? []));
  }
  add(jobId: string, more: Partial<OpenDemand> = {}): void {
    this.jobs.set(jobId, { ...open(jobId), ...more });
  }
}

function open(jobId: string): OpenDemand {
  return {
    jobId,
    orgId: 'org',
    kind: 'batch',
    endpoint: '/v1/embeddings',
    model: 'm',
    wearsAdapter: false,
    region: null,
    poolId: null,
    verify: 'spot',
    rateCaps: { embeddingToken: 100n },
    priority: 0,
    deadlineInMs: HOUR_MS,
    ageMs: 0,
    nextRow: 0,
    rowCount: 10,
    queued: [],
  };
}

function kept(store: Store): KeptDemand {
  return new KeptDemand({ leases: store, clock: store.clock });
}

const ids = (demands: readonly OpenDemand[]): string[] => demands.map(({ jobId }) => jobId);

describe('kept demand', () => {
  it('is what a fresh look would find, whatever came, moved and went', async () => {
    const rng = chance(5);
    const store = new Store();
    const demand = kept(store);
    for (let step = 0; step < 2_000; step += 1) {
      const id = `job-${rng.below(40)}`;
      if (rng.below(3) === 0) store.jobs.delete(id);
      else {
        const times = { deadlineInMs: HOUR_MS + rng.below(1_000), ageMs: rng.below(1_000), priority: rng.below(4) };
        const known = store.jobs.get(id);
        store.add(
          id,
          known === undefined ? { ...times, region: `r${rng.below(3)}` } : { ...known, nextRow: rng.below(10) },
        );
      }
      demand.touch(id);
      store.nowMs += rng.below(3);
      if (rng.below(4) > 0) continue;
      await demand.refresh();
      expect(new Set(ids(demand.next()))).toEqual(new Set(store.jobs.keys()));
      for (const { jobId, nextRow } of demand.next()) expect(nextRow).toBe(store.jobs.get(jobId)?.nextRow);
    }
  });

  it('gives each job back as it was read, also those whose descriptions look alike when they are written one after the other', async () => {
    const store = new Store();
    const queued = [{ taskId: 't', epoch: 2, rowFrom: 0, rowTo: 4, attempts: 0, lastNode: 'n', waitedMs: 10 }];
    store.add('plain');
    store.add('other-caps', { rateCaps: { embeddingToken: 101n } });
    store.add('spaced', { model: 'm', region: 'false r' });
    store.add('spaced-too', { model: 'm false', region: 'r' });
    store.add('nowhere', { region: null });
    store.add('empty', { region: '' });
    store.add('gang', {
      gang: 2,
      needs: { isolation: 'container', gpus: 2, gpuMilli: 500, vramMib: 0, gpuModels: ['T4'], reputationFloor: 0.5 },
      promptBlocks: ['a', 'b'],
      priority: 3,
    });
    store.add('back', { poolId: 'p', nextRow: 3, queued });
    const demand = kept(store);
    await demand.refresh();
    for (const [id, was] of store.jobs) expect(demand.of(id)).toEqual(was);
    expect([...store.jobs.keys()].filter((id) => demand.isGang(id))).toEqual(['gang']);
  });

  it('has a job in its decision after the starvation bound, however many newcomers of whatever priority and deadline come', async () => {
    const store = new Store();
    const demand = kept(store);
    store.add('old', { deadlineInMs: 24 * HOUR_MS });
    await demand.refresh();
    const decided = async (): Promise<boolean> => {
      for (let i = 0; i < DECISION_JOBS_MAX; i += 1) {
        const id = `new-${store.nowMs}-${i}`;
        store.add(id, { deadlineInMs: 1, priority: PRIORITY_MAX });
        demand.touch(id);
      }
      await demand.refresh();
      return ids(demand.next()).includes('old');
    };
    store.nowMs = starvationBoundMs(24 * HOUR_MS) - 1_000;
    expect(await decided()).toBe(false);
    for (const id of store.jobs.keys()) if (id !== 'old') store.jobs.delete(id);
    for (const { jobId } of demand.next()) demand.touch(jobId);
    store.nowMs += 1_000;
    expect(await decided()).toBe(true);
  });

  it('sees what no move tells, a pause or a deadline, when its page has its turn, and asks nothing while nothing moves', async () => {
    const store = new Store();
    for (let i = 0; i < 5; i += 1) store.add(`job-${i}`);
    const demand = kept(store);
    await demand.refresh();
    const before = store.questions;
    for (let i = 0; i < 9; i += 1) {
      store.nowMs += 100;
      await demand.refresh();
    }
    expect(store.questions).toBe(before);
    store.jobs.delete('job-3');
    store.nowMs += 100;
    await demand.refresh();
    expect(ids(demand.next())).toEqual(['job-0', 'job-1', 'job-2', 'job-4']);
  });

  it('forgets without a question what leases leave nothing of, and reads again what they leave something of', async () => {
    const store = new Store();
    const back = (taskId: string): OpenDemand['queued'][number] => ({
      ...{ taskId, epoch: 2, rowFrom: 0, rowTo: 1, attempts: 1, lastNode: null, waitedMs: 0 },
    });
    store.add('whole');
    store.add('part');
    store.add('came-back', { nextRow: 10, queued: [back('a'), back('b')] });
    store.add('run', { kind: 'fine-tune' });
    const demand = kept(store);
    await demand.refresh();
    const before = store.questions;
    demand.leased('whole', [
      { taskId: null, rowTo: 4 },
      { taskId: null, rowTo: 10 },
    ]);
    await demand.refresh();
    expect([store.questions - before, ids(demand.next()).includes('whole')]).toEqual([0, false]);
    demand.leased('part', [{ taskId: null, rowTo: 9 }]);
    demand.leased('came-back', [{ taskId: 'a', rowTo: 10 }]);
    demand.leased('run', [{ taskId: null, rowTo: 10 }]);
    demand.leased('never-seen', [{ taskId: null, rowTo: 10 }]);
    store.jobs.set('part', { ...open('part'), nextRow: 9 });
    store.jobs.delete('run');
    await demand.refresh();
    expect([store.questions - before, new Set(ids(demand.next()))]).toEqual([1, new Set(['part', 'came-back'])]);
  });

  it('gives every organisation and every kind of demand its turn, the most urgent jobs of each first', async () => {
    const store = new Store();
    for (let i = 0; i < 3_000; i += 1)
      store.add(`many-${String(i).padStart(4, '0')}`, { orgId: 'greedy', ageMs: 9_000 });
    store.add('one', { orgId: 'patient' });
    store.add('urgent', { orgId: 'greedy', priority: 3 });
    for (let i = 0; i < 500; i += 1) store.add(`kind-${String(i).padStart(3, '0')}`, { region: `r${i}` });
    const demand = kept(store);
    await demand.refresh();
    const seen = new Set<string>();
    for (let decision = 0; decision < 17; decision += 1) {
      const now = demand.next();
      expect(now.length).toBeLessThanOrEqual(DECISION_JOBS_MAX);
      // The least slack of all, in each decision.
      expect(ids(now)).toContain('urgent');
      for (const id of ids(now)) seen.add(id);
    }
    expect(seen.has('one')).toBe(true);
    expect([...seen].filter((id) => id.startsWith('kind-'))).toHaveLength(500);
  });

  it('has every kind of demand in a wide look, and within a few looks of each whoever is not the most urgent of its kind', async () => {
    const store = new Store();
    for (let i = 0; i < 1_000; i += 1)
      for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) store.add(`${name}-${i}`, { orgId: `org-${i}` });
    const demand = kept(store);
    await demand.refresh();
    expect(demand.isWide).toBe(true);
    const wide = demand.next(true);
    expect(new Set(wide.map(({ orgId }) => orgId)).size).toBe(1_000);
    expect(wide.length).toBeLessThanOrEqual(DECISION_JOBS_MAX + 1_000);
    const seen = new Set<string>();
    for (let look = 0; look < 50; look += 1) for (const id of ids(demand.next())) seen.add(id);
    expect(['a-0', 'b-0', 'c-0', 'd-0', 'e-0', 'f-0'].filter((id) => !seen.has(id))).toEqual([]);
  });

  it('looks at so many kinds of work at once as are compiled at once, and at the next with the next look', async () => {
    const store = new Store();
    for (let i = 0; i < 1_000; i += 1) store.add(`job-${i}`, { region: `r${i}` });
    const demand = kept(store);
    await demand.refresh();
    const seen = new Set<string>();
    for (let look = 0; look < 3; look += 1) for (const id of ids(demand.next(true))) seen.add(id);
    expect(seen.size).toBe(1_000);
  });

  it('lets time pass: what is left shrinks, what was waited grows, and the order stays', async () => {
    const store = new Store();
    const queued = [{ taskId: 't', epoch: 2, rowFrom: 0, rowTo: 4, attempts: 0, lastNode: 'n', waitedMs: 10 }];
    store.add('b', { deadlineInMs: HOUR_MS - 5, queued });
    store.add('a');
    const demand = kept(store);
    await demand.refresh();
    store.nowMs += 700;
    demand.touch('a');
    await demand.refresh();
    const [first, second] = demand.next();
    expect([first?.jobId, first?.deadlineInMs, first?.ageMs, first?.queued[0]?.waitedMs]).toEqual([
      'b',
      HOUR_MS - 705,
      700,
      710,
    ]);
    expect(second?.jobId).toBe('a');
  });

  it('holds 1,000,000 rows of 20,000 jobs, and decides without looking at all of them', async () => {
    const store = new Store();
    for (let i = 0; i < 20_000; i += 1)
      store.add(`job-${String(i).padStart(6, '0')}`, { orgId: `org-${i % 50}`, rowCount: 50 });
    const demand = kept(store);
    await demand.refresh();
    expect(demand.size).toBe(20_000);
    const before = store.questions;
    for (let i = 0; i < 100; i += 1) {
      const now = demand.next();
      expect(now.length).toBeLessThanOrEqual(DECISION_JOBS_MAX);
      for (const { jobId } of now.slice(0, 20)) {
        store.jobs.delete(jobId);
        demand.touch(jobId);
      }
      await demand.refresh();
    }
    expect(demand.size).toBe(18_000);
    expect(store.questions - before).toBe(100);
  });
});
