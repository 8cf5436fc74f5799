import { getEventListeners } from 'node:events';
import { describe, expect, it } from '@jest/globals';
import type { Verified } from '@freehold/market';
import { LONG_MAX, Verdicts, WAITING_MAX, type VerdictParts } from './verdicts.ts';

/** Signals that Node made of this one with others, and remembers as long as it lives. */
function dependants(signal: AbortSignal): number {
  const key = Object.getOwnPropertySymbols(signal).find(({ description }) => description === 'kDependantSignals');
  return key === undefined ? 0 : (Reflect.get(signal, key) as ReadonlySet<unknown>).size;
}

const PASSED: Verified = { done: true, outcome: 'accepted', settle: '7' };
const unending = new AbortController().signal;
const ref = (task: string): { task: string; epoch: number } => ({ task, epoch: 1 });

/** Verdicts over a chain that grows by hand; `said` is what they did, in its order. */
class Bench {
  readonly said: string[] = [];
  nowMs = 0;
  height = 1n;
  looks = 0;
  readonly verdicts: Verdicts;

  constructor(verify: VerdictParts['verify'], change: Partial<VerdictParts> = {}) {
    this.verdicts = new Verdicts({
      verify: async (lease, signal) => {
        this.said.push(`verify ${lease.task}`);
        return verify(lease, signal);
      },
      rejected: ({ task }) => this.said.push(`rejected ${task}`),
      passed: (endedJob) => this.said.push(endedJob ? 'passed and ended' : 'passed'),
      issueVoucher: async (task) => void this.said.push(`voucher ${task}`),
      outbox: { done: async (ids) => void this.said.push(`done ${ids.join(' ')}`) },
      blocks: { height: async () => this.#look() },
      clock: { nowMs: () => this.nowMs },
      report: (task, error) => this.said.push(`report ${task}: ${String(error)}`),
      ...change,
    });
  }

  async until(what: () => boolean): Promise<void> {
    while (!what()) await new Promise(setImmediate);
  }

  #look(): bigint {
    this.looks += 1;
    return this.height;
  }
}

/** Leases whose draws wait for block 5. By itself only the first of them would look again in this test's time. */
const waitsForBlock =
  (bench: () => Bench): VerdictParts['verify'] =>
  async ({ task }) =>
    bench().height >= 5n
      ? { done: true, outcome: 'accepted' }
      : { done: false, why: 'no block', retryInMs: task === 'a' ? 1 : 600_000, block: 5n };

describe('a verdict that is there', () => {
  it('issues its voucher itself, and then spares the queue its message', async () => {
    const bench = new Bench(async () => PASSED);
    await bench.verdicts.reach(ref('a'), unending);
    await bench.until(() => bench.said.length === 4);
    expect(bench.said).toEqual(['verify a', 'passed', 'voucher a', 'done 7']);
  });

  it('says with it whether its job has ended, which is to be finalized then', async () => {
    const bench = new Bench(async () => ({ ...PASSED, endedJob: true }));
    await bench.verdicts.reach(ref('a'), unending);
    expect(bench.said).toContain('passed and ended');
  });

  it('leaves nothing at the signal of its process, which sees each of them', async () => {
    const bench = new Bench(async () => PASSED);
    const { signal } = new AbortController();
    for (const task of ['a', 'b', 'c']) await bench.verdicts.reach(ref(task), signal);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    expect(dependants(signal)).toBe(0);
  });

  it('waits for no voucher, and leaves one that went wrong to the queue', async () => {
    let fail = (_error: Error): void => undefined;
    const issueVoucher = (): Promise<void> => new Promise((_resolve, reject) => (fail = reject));
    const bench = new Bench(async () => PASSED, { issueVoucher });
    await bench.verdicts.reach(ref('a'), unending);
    expect(bench.said).toEqual(['verify a', 'passed']);
    fail(new Error('the signer is away'));
    await bench.until(() => bench.said.length === 3);
    expect(bench.said.at(-1)).toBe('report a: Error: the signer is away');
  });

  it('of rows that wait again says so, and issues nothing', async () => {
    const bench = new Bench(async () => ({ done: true, outcome: 'rejected' }));
    await bench.verdicts.reach(ref('a'), unending);
    expect(bench.said).toEqual(['verify a', 'rejected a']);
  });
});

describe('a verdict that waits for auditors', () => {
  const waits: VerdictParts['verify'] = async () => ({ done: false, why: 'no auditor answered', retryInMs: 1 });

  it('leaves its place to others after a while: whoever answers no audit must not stop all verdicts', async () => {
    const bench = new Bench(waits);
    const reached = bench.verdicts.reach(ref('a'), unending);
    await bench.until(() => bench.said.length >= 3);
    bench.nowMs = 20_000;
    await expect(reached).rejects.toThrow('No verdict about a yet: no auditor answered');
    expect(new Set(bench.said)).toEqual(new Set(['verify a']));
  });

  it('has as long for them as ever when its block came late', async () => {
    let height = 0;
    const bench: Bench = new Bench(async (...asked) =>
      height === 0 ? { done: false, why: 'no block', retryInMs: 1, block: 1n } : waits(...asked),
    );
    const reached = bench.verdicts.reach(ref('a'), unending);
    await bench.until(() => bench.looks > 0);
    [height, bench.nowMs] = [1, 30_000];
    await bench.until(() => bench.said.length >= 4);
    bench.nowMs = 50_000;
    await expect(reached).rejects.toThrow('No verdict about a yet: no auditor answered');
  });

  it('leaves its hand at once where enough others wait: those who can be looked at need hands', async () => {
    const bench = new Bench(async ({ task }) =>
      task === 'fast' ? PASSED : { done: false, why: 'no auditor answered', retryInMs: 600_000 },
    );
    const ends = new AbortController();
    const waiting = Array.from({ length: WAITING_MAX }, (_, i) => bench.verdicts.reach(ref(`slow-${i}`), ends.signal));
    await bench.until(() => bench.said.length === WAITING_MAX);
    await expect(bench.verdicts.reach(ref('slow'), unending)).rejects.toThrow('no auditor answered');
    await bench.verdicts.reach(ref('fast'), unending);
    ends.abort(new Error('enough'));
    expect(await Promise.allSettled(waiting)).toMatchObject(waiting.map(() => ({ status: 'rejected' })));
    await expect(bench.verdicts.reach(ref('fast'), unending)).resolves.toBeUndefined();
  });
});

describe('an audit that takes longer than its lease has a hand', () => {
  /** Audits that last until the test ends them. */
  const slow = (): { bench: Bench; ends: (verified: Verified) => void; given: string[] } => {
    let ends = (_verified: Verified): void => undefined;
    const ended = new Promise<Verified>((resolve) => (ends = resolve));
    const given: string[] = [];
    const verify: VerdictParts['verify'] = ({ task }, signal) =>
      new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => {
          given.push(task);
          reject(new Error('given up'));
        });
        void ended.then(resolve);
      });
    return { bench: new Bench(verify, { waitMs: 5 }), ends, given };
  };
  const goesOn = 'its audit goes on';

  it('goes on by itself, and who asks for its lease again waits for the same one', async () => {
    const { bench, ends } = slow();
    await expect(bench.verdicts.reach(ref('a'), unending)).rejects.toThrow(goesOn);
    await expect(bench.verdicts.reach(ref('a'), unending)).rejects.toThrow(goesOn);
    ends(PASSED);
    await bench.until(() => bench.said.includes('done 7'));
    expect(bench.said).toEqual(['verify a', 'passed', 'voucher a', 'done 7']);
  });

  it('is one of a few: others are given up, and begun again, those that end within their time go through', async () => {
    const { bench, given } = slow();
    const all = Array.from({ length: LONG_MAX + 1 }, (_, i) => bench.verdicts.reach(ref(`${i}`), unending));
    const ended = await Promise.allSettled(all);
    expect(ended).toMatchObject(all.map(() => ({ status: 'rejected' })));
    expect(given).toHaveLength(1);
  });

  it('ends with its process, and is reported when it breaks', async () => {
    const { bench, given } = slow();
    await expect(bench.verdicts.reach(ref('a'), unending)).rejects.toThrow(goesOn);
    await bench.verdicts.close();
    expect(given).toEqual(['a']);
    let breaks = (_error: Error): void => undefined;
    const broken = new Bench(() => new Promise((_resolve, reject) => (breaks = reject)), { waitMs: 5 });
    await expect(broken.verdicts.reach(ref('b'), unending)).rejects.toThrow(goesOn);
    breaks(new Error('no database'));
    await broken.until(() => broken.said.length === 2);
    expect(broken.said).toEqual(['verify b', 'report b: Error: no database']);
  });
});

describe('verdicts that wait for a block', () => {
  it('look at the chain together, at no lease meanwhile, and go on when the block is there', async () => {
    const bench: Bench = new Bench(waitsForBlock(() => bench));
    const all = ['a', 'b', 'c'].map((task) => bench.verdicts.reach(ref(task), unending));
    await bench.until(() => bench.looks >= 9);
    expect(bench.said).toEqual(['verify a', 'verify b', 'verify c']);
    bench.height = 5n;
    await Promise.all(all);
    expect(bench.said.filter((one) => one === 'passed')).toHaveLength(3);
    expect(bench.said.filter((one) => one.startsWith('verify'))).toHaveLength(6);
  });

  it('look at their lease all the same after ten seconds: it may be void', async () => {
    const bench: Bench = new Bench(async () =>
      bench.nowMs === 0 ? { done: false, why: 'no block', retryInMs: 1, block: 5n } : { done: true, outcome: 'fenced' },
    );
    const reached = bench.verdicts.reach(ref('a'), unending);
    await bench.until(() => bench.looks > 2);
    bench.nowMs = 10_000;
    await reached;
    expect(bench.said).toEqual(['verify a', 'verify a', 'passed']);
  });

  it('end with their process', async () => {
    const ending = new AbortController();
    const bench: Bench = new Bench(waitsForBlock(() => bench));
    const reached = bench.verdicts.reach(ref('a'), ending.signal);
    await bench.until(() => bench.looks > 0);
    ending.abort(new Error('the house closes'));
    await expect(reached).rejects.toThrow('the house closes');
    expect(bench.said).toEqual(['verify a']);
  });
});
