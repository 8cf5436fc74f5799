import { beforeEach, describe, expect, it } from '@jest/globals';
import type { AuditFromNode, RowScore } from '@freehold/protocol';
import { AUDIT_SILENCE_MS, ROW_MS_MAX } from '@freehold/protocol';
import { AUDIT_MS_MAX, auditLimitMs, type Auditor, type AuditRow } from './auditor.ts';
import { auditorsOver, LEASE, node } from './auditors.fixture.ts';
import { AUDITOR_RETURN_MS, type Auditors } from './choose-auditor.ts';
import { AUDIT_REST_MS, MUTE_AFTER_MS, MUTE_MS, SILENCE_GAP_MS } from './silence.ts';
import type { Engine } from './ports/engine.ts';
import type { ConnectedNode, ProviderLink } from './ports/provider-link.ts';

const UNENDING = new AbortController().signal;

describe('an auditor that was asked and gave no whole answer', () => {
  let nowMs = 0;
  const rows = [1, 2].map((rowNo) => ({ rowNo }) as AuditRow);
  const engine = { describe: () => Promise.resolve({ models: [] }) } as unknown as Engine; // only described here
  const [best, other] = [node('best', 'c', true), node('other', 'd', false)];

  /** Auditors among which `best` answers like this. */
  function over(nodes: ConnectedNode[], answer: () => unknown, own: Engine | null = null) {
    const told: string[] = [];
    const auditors = auditorsOver(() => nodes, {
      // A node answers; nothing else of the link is looked at.
      link: { nodes: () => nodes, audit: () => Promise.resolve(answer()) } as unknown as ProviderLink, // whoever audits needs no more
      localEngine: () => Promise.resolve(own === null ? null : { engine: own, engineClass: 'c' }),
      clock: { nowMs: () => nowMs },
      unanswered: (nodeId) => void told.push(nodeId),
    });
    const ask = async (): Promise<readonly RowScore[] | null> => {
      const auditor = await auditors.next(LEASE, new Set());
      return auditor?.answer(() => auditor.score(LEASE, rows, UNENDING), UNENDING) ?? null;
    };
    return { auditors, told, ask };
  }
  const half = (): unknown => ({ scores: [{ rowNo: 1 }] });
  const next = async (auditors: Auditors): Promise<string | undefined> => (await auditors.next(LEASE, new Set()))?.id;

  beforeEach(() => {
    nowMs = 0;
  });

  it.each([
    ['refused', () => ({ type: 'refused', code: 'BUSY', message: '' })],
    ['answered only some of the rows', half],
  ])('%s: it is told on, and asked after everybody else for a while', async (_how, answer) => {
    const { auditors, told, ask } = over([best, other], answer);
    expect(await next(auditors)).toBe('best');
    expect(await ask()).toBeNull();
    expect(told).toEqual(['best']);
    expect(await next(auditors)).toBe('other');
    nowMs = AUDIT_REST_MS;
    expect(await next(auditors)).toBe('best');
  });

  it('is asked after the own engine too, and again where there is nobody else', async () => {
    const { auditors, ask } = over([best], half, engine);
    await ask();
    expect(await next(auditors)).toBe('coordinator');
    const alone = over([best], half);
    await alone.ask();
    expect(await next(alone.auditors)).toBe('best');
  });

  it('and none for minutes, is waited for by nobody: alone it would keep all that it could see from its verdict', async () => {
    const { auditors, ask } = over([best], half);
    for (let asked = 0; asked < 5; asked += 1) {
      nowMs = (asked * (MUTE_AFTER_MS - 1)) / 4;
      await ask();
    }
    expect(await auditors.anyFor(LEASE)).toBe(true);
    nowMs = MUTE_AFTER_MS;
    await ask();
    expect(await next(auditors)).toBeUndefined();
    expect(await auditors.anyFor(LEASE)).toBe(false);
    nowMs += MUTE_MS;
    expect(await next(auditors)).toBe('best');
  });

  it('but answers now and then, stays an auditor', async () => {
    let isWhole = false;
    const { auditors, ask } = over([best], () => ({
      scores: rows.slice(isWhole ? 0 : 1).map(({ rowNo }) => ({ rowNo })),
    }));
    for (let asked = 0; asked < 18; asked += 1) {
      nowMs = asked * 60_000;
      isWhole = asked === 8;
      await ask();
    }
    nowMs += AUDIT_REST_MS;
    expect(await next(auditors)).toBe('best');
  });

  it('went away meanwhile: nothing is held against it', async () => {
    const nodes = [best];
    const { told, ask } = over(nodes, () => {
      nodes.pop();
      return { type: 'error', code: 'AUDIT_CUT', message: '' };
    });
    expect(await ask()).toBeNull();
    expect(told).toEqual([]);
  });
});

type Reply = Awaited<ReturnType<ProviderLink['audit']>>;
const refused = (code: string): Extract<AuditFromNode, { type: 'error' }> => ({ type: 'error', code, message: '' });

/** The only auditor of a lease; what it says of an audit, and whether it is here, is the test's. */
class Alone {
  nowMs = 0;
  reply: (signal: AbortSignal) => Reply | Promise<Reply> = () => refused('AUDIT_CUT');
  readonly told: string[] = [];
  here: ConnectedNode[];
  readonly auditor: ConnectedNode;
  readonly accused = { ...node('accused', 'c', true), address: '0xa' };
  readonly auditors: Auditors;

  constructor(slots = 1) {
    const { offer, ...auditor } = node('alone', 'c', true);
    const engines = offer.engines.map((engine) => ({
      ...engine,
      models: engine.models.map((model) => ({ ...model, slots })),
    }));
    this.auditor = { ...auditor, offer: { ...offer, engines } };
    this.here = [this.accused, this.auditor];
    this.auditors = auditorsOver(() => this.here, {
      link: {
        nodes: () => this.here,
        audit: async (_id: string, _what: unknown, _rows: unknown, signal: AbortSignal) => this.reply(signal),
      } as unknown as ProviderLink, // whoever audits needs no more
      clock: { nowMs: () => this.nowMs },
      unanswered: (nodeId) => void this.told.push(nodeId),
      limitMs: () => 20,
    });
    // Right after a start everybody is waited for.
    this.nowMs = 10 * MUTE_MS;
  }

  async chosen(): Promise<Auditor> {
    const auditor = await this.auditors.next(LEASE, new Set());
    if (auditor === null) throw new Error('there is no auditor');
    return auditor;
  }

  async ask(signal = UNENDING): Promise<unknown> {
    const auditor = await this.chosen();
    return auditor.answer(() => auditor.score(LEASE, [{ rowNo: 1 } as AuditRow], signal), signal); // only counted
  }

  /** Whether work that it alone could see waits for it. */
  async isWaitedFor(): Promise<boolean> {
    return this.auditors.anyFor(LEASE);
  }

  async every(ms: number, times: number, what: () => Promise<unknown>): Promise<void> {
    for (let time = 0; time < times; time += 1) {
      await what();
      this.nowMs += ms;
    }
  }
}

describe('an auditor that is the only one', () => {
  it.each<[string, (signal: AbortSignal) => Reply | Promise<Reply>]>([
    ['has no free slot', () => refused('NODE_BUSY')],
    ['should have a row that is too long to be sent', () => refused('AUDIT_UNSENT')],
    [
      'is at it until its time is over',
      (signal) =>
        new Promise((resolve) => signal.addEventListener('abort', () => resolve(refused('AUDIT_CUT')), { once: true })),
    ],
  ])('and %s for an hour is waited for all the same: others could make it so', async (_how, reply) => {
    const alone = new Alone();
    alone.reply = reply;
    await alone.every(120_000, 30, () => alone.ask());
    expect(await alone.isWaitedFor()).toBe(true);
    expect(alone.told).toHaveLength(30);
  });

  it('and misses one audit, and a few in a minute an hour later, is waited for', async () => {
    const alone = new Alone();
    await alone.ask();
    alone.nowMs += 55 * 60_000;
    await alone.every(AUDIT_REST_MS, 4, () => alone.ask());
    expect(await alone.isWaitedFor()).toBe(true);
    // Nor where there was nothing to miss for longer than its silence lasts.
    alone.nowMs += SILENCE_GAP_MS;
    await alone.every(SILENCE_GAP_MS + 1, 5, () => alone.ask());
    expect(await alone.isWaitedFor()).toBe(true);
  });

  it('and misses audits that were asked for together, misses one', async () => {
    const alone = new Alone(8);
    const five = (): Promise<unknown> => Promise.all([1, 2, 3, 4, 5].map(() => alone.ask()));
    await alone.every(MUTE_AFTER_MS / 3, 3, five);
    await five();
    expect(await alone.isWaitedFor()).toBe(true);
    alone.nowMs += AUDIT_REST_MS;
    await five();
    expect(await alone.isWaitedFor()).toBe(false);
  });

  it('and hangs up whenever it is asked is waited for no longer than one that is silent', async () => {
    const alone = new Alone();
    alone.reply = () => {
      alone.here = [alone.accused];
      return refused('AUDIT_CUT');
    };
    await alone.every(120_000, 5, async () => {
      alone.here = [alone.accused, alone.auditor];
      alone.auditors.look();
      await alone.ask();
      expect(await alone.isWaitedFor()).toBe(true);
    });
    alone.here = [alone.accused, alone.auditor];
    alone.auditors.look();
    await alone.ask();
    expect(await alone.isWaitedFor()).toBe(false);
    expect(alone.told).toEqual([]);
  });

  it.each([
    ['', false],
    [', unless all are: that is the line of whoever asks', true],
  ])(
    'and is away whenever it should be asked, but back in between, is waited for no longer either%s',
    async (_, isOurs) => {
      const alone = new Alone();
      const flaps = async (): Promise<void> => {
        alone.here = [alone.accused, alone.auditor];
        alone.auditors.look();
        alone.here = isOurs ? [] : [alone.accused];
        await alone.isWaitedFor();
      };
      await alone.every(AUDITOR_RETURN_MS, MUTE_AFTER_MS / AUDITOR_RETURN_MS, flaps);
      expect(await alone.isWaitedFor()).toBe(true);
      await flaps();
      alone.here = [alone.accused];
      expect(await alone.isWaitedFor()).toBe(isOurs);
    },
  );

  it('and answers the first ask of an audit and never the second is silent: both are one answer', async () => {
    const alone = new Alone();
    const half = async (): Promise<void> => {
      const auditor = await alone.chosen();
      const ask = (): Promise<readonly RowScore[] | null> => auditor.score(LEASE, [{ rowNo: 1 } as AuditRow], UNENDING); // only counted
      await auditor.answer(async () => {
        alone.reply = () => ({ scores: [{ rowNo: 1 } as RowScore] }); // only counted
        expect(await ask()).toHaveLength(1);
        alone.reply = () => refused('AUDIT_CUT');
        return ask();
      }, UNENDING);
    };
    await alone.every(120_000, 5, half);
    expect(await alone.isWaitedFor()).toBe(true);
    await half();
    expect(await alone.isWaitedFor()).toBe(false);
  });

  it('and drains is asked for nothing, and waited for like one that has gone', async () => {
    const alone = new Alone();
    alone.auditors.look();
    alone.here = [alone.accused, { ...alone.auditor, draining: true }];
    alone.auditors.look();
    expect(await alone.auditors.next(LEASE, new Set())).toBeNull();
    expect(await alone.isWaitedFor()).toBe(true);
    alone.nowMs += AUDITOR_RETURN_MS + 1;
    alone.auditors.look();
    expect(await alone.isWaitedFor()).toBe(false);
  });

  it('is held to nothing that was given up by whoever asked', async () => {
    const alone = new Alone();
    const given = new AbortController();
    alone.reply = () => {
      given.abort();
      return refused('AUDIT_CUT');
    };
    await alone.ask(given.signal);
    expect(alone.told).toEqual([]);
  });
});

it('an audit may take what each of its rows does, and never ends before its auditor is known to be silent', () => {
  const limit = (kind: 'batch' | 'fine-tune', rows: number): number => auditLimitMs({ kind }, rows);
  expect(limit('batch', 1)).toBeGreaterThan(AUDIT_SILENCE_MS);
  expect(limit('batch', 103)).toBeGreaterThanOrEqual(103 * 10_000);
  // The first, the last and three others, each as long as a segment may be.
  expect(limit('fine-tune', 5)).toBeGreaterThanOrEqual(5 * ROW_MS_MAX);
  expect(limit('fine-tune', 1_000)).toBe(AUDIT_MS_MAX);
});
