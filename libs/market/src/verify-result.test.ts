import { describe, expect, it } from '@jest/globals';
import type { VerifyLevel } from '@freehold/domain';
import type { RowScore, Work, WorkOutput } from '@freehold/protocol';
import type { Auditor } from './auditor.ts';
import type { Auditors } from './choose-auditor.ts';
import type { Acceptance, AuditFinding, LeaseView } from './ports/lease-store.ts';
import { verifyResult, type VerifyPorts } from './verify-result.ts';

const WORK: Work = { kind: 'embedding', inputs: ['x'] };
const OUTPUT: WorkOutput = { kind: 'embedding', vectors: ['AACAPw=='], dimensions: 1, unitsIn: 10 };
const GOOD = { kind: 'embedding', rowNo: 0, cosine: 1, normDifference: 0, dimensions: 1, unitsIn: 10 };

/** One delivered row, and auditors that find it good. */
class House {
  readonly accepted: Acceptance[] = [];
  /** What the store was asked. */
  readonly asked: string[] = [];
  readonly found: AuditFinding[] = [];
  auditors: string[];
  /** What each of them says of the row. */
  score: (id: string) => readonly RowScore[] | null = () => [GOOD as unknown as RowScore]; // of a score only its verdict is read
  readonly #lease: LeaseView;

  constructor(verify: VerifyLevel, auditors: string[], drawn: Partial<LeaseView> = {}) {
    this.auditors = auditors;
    this.#lease = {
      task: '00000000-0000-4000-8000-000000000001',
      epoch: 1,
      jobId: 'j',
      nodeId: 'worker',
      nonce: '0x',
      model: 'm',
      digest: 'd',
      engineClass: 'c',
      rates: { embeddingToken: 1n },
      rowFrom: 0,
      rowTo: 1,
      adapter: null,
      region: null,
      isolation: 'none',
      poolId: null,
      orgId: 'o',
      kind: 'batch',
      state: 'delivered',
      taskEpoch: 1,
      verify,
      payout: '0xw',
      address: '0xw',
      road: 'batch',
      checkpointRows: 1,
      checkpointRoot: `0x${'00'.repeat(32)}`,
      checkpointSignature: '0x',
      committed: true,
      drawHeight: 1n,
      drawSeed: `0x${'00'.repeat(32)}`,
      drawRows: [0],
      alive: false,
      asked: false,
      cutShort: false,
      ...drawn,
    };
  }

  ports(): VerifyPorts {
    const delivered = [
      { rowNo: 0, offset: 0, length: 1, leafHash: new Uint8Array(32), succeeded: true, usage: { embeddingToken: 10n } },
    ];
    const leases = {
      view: async () => this.#lease,
      nodeRecords: async () => this.#told('record', new Map()),
      delivered: async () => delivered,
      findings: async () => this.#told('findings', [...this.found]),
      saveFindings: async (_: unknown, found: AuditFinding[]) => this.#save(found),
      benchAuditors: async () => undefined,
      reject: async () => this.#told('reject', { moved: true, voided: [] }),
      inputs: async () => ({
        inputFile: 'f',
        endpoint: '/v1/embeddings',
        model: 'm',
        rows: [{ rowNo: 0, customId: 'a', offset: 0, length: 1 }],
      }),
      accept: async (acceptance: Acceptance) => {
        this.accepted.push(acceptance);
        return { moved: true, charge: 1n, fee: 0n, jobDone: true };
      },
    };
    return {
      leases,
      objects: { readPieces: async () => [new TextEncoder().encode(JSON.stringify(OUTPUT))] },
      link: { tell: () => true },
      signer: { address: '0x', sign: async () => '0x' },
      blocks: { height: async () => 1n, hash: async () => `0x${'00'.repeat(32)}` },
      auditors: this.#auditors(),
      readWork: () => WORK,
      drawSecret: () => new Uint8Array(32),
      feeBps: 500,
    } as unknown as VerifyPorts; // the verdict's part of them
  }

  /** The first word of an auditor about a row counts. */
  #save(found: readonly AuditFinding[]): void {
    const isNew = ({ rowNo, auditor }: AuditFinding): boolean =>
      !this.found.some((known) => known.rowNo === rowNo && known.auditor === auditor);
    this.found.push(...found.filter(isNew));
  }

  #told<T>(what: string, answer: T): T {
    this.asked.push(what);
    return answer;
  }

  #auditors(): Auditors {
    const of = (id: string): Auditor => ({
      id,
      kind: 'node',
      sameClass: true,
      exact: false,
      answer: (work) => work(),
      score: async () => this.score(id),
    });
    return {
      next: async (_lease, used) => {
        const id = this.auditors.find((candidate) => !used.has(candidate));
        return id === undefined ? null : of(id);
      },
      anyFor: async () => this.auditors.length > 0,
      look: () => undefined,
    };
  }

  async verify(signal = new AbortController().signal): Promise<boolean> {
    const verified = await verifyResult(this.ports(), { task: this.#lease.task, epoch: 1 }, signal);
    return verified.done;
  }
}

describe('verification', () => {
  it('of a quorum waits for the second operator and accepts when it came', async () => {
    const house = new House('quorum', ['b']);
    expect(await house.verify()).toBe(false);
    expect(house.accepted).toEqual([]);
    house.auditors = ['b', 'c'];
    expect(await house.verify()).toBe(true);
    expect(house.accepted).toHaveLength(1);
  });

  it('of strict work delivers nothing that nobody looked at', async () => {
    const house = new House('strict', []);
    expect(await house.verify()).toBe(false);
    expect(house.accepted).toEqual([]);
  });

  it('of spot-checked work says in the receipt that nobody could look', async () => {
    const house = new House('spot', []);
    expect(await house.verify()).toBe(true);
    expect(house.accepted).toMatchObject([{ audited: 0, draw: 'none' }]);
  });

  it('of work that nobody is to look at asks for no record of its node, and for nothing that was said of it', async () => {
    const undrawn = { drawHeight: null, drawSeed: null, drawRows: null };
    const off = new House('off', ['b'], undrawn);
    expect(await off.verify()).toBe(true);
    expect([off.asked, off.accepted]).toMatchObject([[], [{ audited: 0, draw: 'none' }]]);
    const spot = new House('spot', ['b']);
    await spot.verify();
    expect(spot.asked).toEqual(['record', 'findings', 'findings']);
  });

  it.each([
    ['another auditor', 'coordinator', 'coordinator'],
    ['the same auditor', 'b', 'coordinator'],
  ] as const)(
    'weighs what %s told another scheduler while its own audit went on',
    async (_who, auditor, auditorKind) => {
      const house = new House('spot', ['b']);
      house.score = () => {
        const said = { rowNo: 0, verdict: 'bad', sameClass: true, score: {} } as const;
        if (house.found.length === 0) house.found.push({ ...said, auditor, auditorKind });
        return [GOOD as unknown as RowScore]; // of a score only its verdict is read
      };
      expect(await house.verify()).toBe(false);
      expect(house.accepted).toEqual([]);
      expect(await house.verify()).toBe(true);
      expect([house.accepted, house.asked.at(-1)]).toEqual([[], 'reject']);
    },
  );

  it('charges the least there is for a lease that rounds to nothing', async () => {
    const house = new House('spot', ['b']);
    await house.verify();
    expect(house.accepted).toMatchObject([{ audited: 1, due: 1n }]);
  });

  it('that is given up comes to nothing: nobody knows what those who were not waited for would have said', async () => {
    const house = new House('spot', ['b', 'c']);
    const given = new AbortController();
    house.score = (id) => {
      if (id === 'b') return [{ ...GOOD, cosine: 0.1 } as unknown as RowScore]; // of a score only its verdict is read
      given.abort(new Error('given up'));
      return null;
    };
    await expect(house.verify(given.signal)).rejects.toThrow('given up');
    expect(house.asked).toEqual(['record', 'findings']);
  });
});
