import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { AuditCall } from './node/duties.ts';
import { coordinator, embed, embedding, eventually, newKey, node, TestDuties, TestEvents } from './loopback.fixture.ts';
import type { AuditRow } from './coordinator/run-audit.ts';
import type { Libp2pProviderLink } from './coordinator/libp2p-provider-link.ts';
import type { NodeLink } from './node/node-link.ts';
import { setTimeout as sleep } from 'node:timers/promises';

const NEVER = new AbortController().signal;
const WRITE_MS = 150;
/** More than is on its way before a writer waits for its reader. */
const ROWS: readonly AuditRow[] = Array.from({ length: 12 }, (_, rowNo) => {
  const work = embedding('x'.repeat(400_000));
  return { rowNo, work, committed: embed(work) };
});

describe('an audit of more rows than are on their way at once', () => {
  let link: Libp2pProviderLink;
  let duties: TestDuties;
  let nodeLink: NodeLink;
  let unheard: unknown[];
  const hears = (error: unknown): void => void unheard.push(error);

  beforeEach(async () => {
    unheard = [];
    process.on('unhandledRejection', hears);
    link = coordinator(newKey(), [], { writeMs: WRITE_MS, auditRowMs: 1_500 });
    await link.listen(new TestEvents());
    duties = new TestDuties(newKey());
    nodeLink = node(duties, link.addresses());
    await nodeLink.start();
    await eventually('the node is welcomed', () => link.nodes().length === 1);
  });

  afterEach(async () => {
    process.off('unhandledRejection', hears);
    await nodeLink.close();
    await link.close();
  });

  const audit = (rows = ROWS): ReturnType<Libp2pProviderLink['audit']> =>
    link.audit(nodeLink.peerId, { id: 'a', model: 'echo', digest: 'declared:echo' }, rows, NEVER);

  it('goes on as long as scores come, however late each of them', async () => {
    const scores = duties.audit;
    duties.audit = (call) => scores({ ...call, rows: takenSlowly(call, 2 * WRITE_MS) });
    expect(await audit()).toMatchObject({ scores: ROWS.map(({ rowNo }) => ({ rowNo })) });
    expect(unheard).toEqual([]);
  });

  it('ends with a word when its auditor takes no rows or hangs up in the middle, and takes nobody else with it', async () => {
    duties.audit = async () => sleep(3_000, undefined, { ref: false });
    expect(await audit()).toMatchObject({ type: 'error', code: 'AUDIT_CUT' });
    duties.audit = () => Promise.reject(new Error('no time'));
    expect(await audit()).toMatchObject({ type: 'error', code: 'AUDIT_CUT' });
    await sleep(50);
    expect(unheard).toEqual([]);
  });

  it('says so when a row is too long to be sent: that is not the fault of its auditor', async () => {
    const work = embedding('x'.repeat(25 * 1_048_576));
    expect(await audit([{ rowNo: 0, work, committed: embed(work) }])).toMatchObject({ code: 'AUDIT_UNSENT' });
    expect(unheard).toEqual([]);
  });

  it.each(['NODE_GONE', 'AUDIT_UNSENT'])(
    'is refused where its auditor says %s, which only its coordinator can',
    async (code) => {
      duties.audit = (call) => call.send({ type: 'refused', code, message: '' });
      expect(await audit()).toMatchObject({ type: 'refused', code: 'AUDIT_REFUSED' });
      duties.audit = (call) => call.send({ type: 'error', code, message: '' });
      expect(await audit()).toMatchObject({ type: 'error', code: 'AUDIT_REFUSED' });
    },
  );
});

async function* takenSlowly(call: AuditCall, ms: number): AuditCall['rows'] {
  for await (const row of call.rows) {
    await sleep(ms);
    yield row;
  }
}
