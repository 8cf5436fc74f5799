import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { StreamRefused } from '@freehold/market';
import type { ChatWork } from '@freehold/protocol';
import type { LinkNote } from './coordinator/options.ts';
import {
  coordinator,
  eventually,
  grantFor,
  MemorySink,
  newKey,
  node,
  rowInputs,
  serveRowsInOrder,
  TestDuties,
  TestEvents,
} from './loopback.fixture.ts';
import type { Libp2pProviderLink } from './coordinator/libp2p-provider-link.ts';
import type { NodeLink } from './node/node-link.ts';

const CHAT: ChatWork = {
  kind: 'chat',
  messages: [{ role: 'user', content: 'hello' }],
  maxTokens: 64,
  temperature: 0,
  topP: 1,
  seed: 0,
  stop: [],
  topLogprobs: 0,
  logprobs: false,
};
const NEVER = new AbortController().signal;

describe('a coordinator and a node over libp2p', () => {
  const key = newKey();
  let link: Libp2pProviderLink;
  let events: TestEvents;
  let duties: TestDuties;
  let nodeLink: NodeLink;
  let notes: LinkNote[];

  beforeEach(async () => {
    notes = [];
    events = new TestEvents();
    link = coordinator(key, notes);
    await link.listen(events);
    duties = new TestDuties(newKey());
    nodeLink = node(duties, link.addresses());
    await nodeLink.start();
    await eventually('the node is welcomed', () => link.nodes().length === 1 && nodeLink.connected().length === 1);
  });

  afterEach(async () => {
    await nodeLink.close();
    await link.close();
  });

  it('runs a lease from grant to commit, with every result in order and checkpoints between', async () => {
    const grant = grantFor(nodeLink.peerId, 37);
    const sink = new MemorySink();
    const end = await link.runLease(grant, 0, rowInputs(0, 37), sink, NEVER);
    expect(end).toEqual({ end: 'committed' });
    expect(sink.rows.map((row) => row.index)).toEqual(Array.from({ length: 37 }, (_, i) => i));
    expect(sink.checkpoints.map(({ n, last }) => [n, last])).toEqual([
      [4, false],
      [8, false],
      [12, false],
      [16, false],
      [20, false],
      [24, false],
      [28, false],
      [32, false],
      [36, false],
      [37, true],
    ]);
  });

  it('goes on from the first row that is not durable', async () => {
    const sink = new MemorySink();
    const end = await link.runLease(grantFor(nodeLink.peerId, 12), 8, rowInputs(8, 12), sink, NEVER);
    expect(end).toEqual({ end: 'committed' });
    expect(sink.rows.map((row) => row.index)).toEqual([8, 9, 10, 11]);
  });

  it('says that the stream was cut when the node breaks off, and hands on what had come', async () => {
    duties.onRows = async (call) => await serveRowsInOrder(call, duties.signer, 8);
    const sink = new MemorySink();
    const end = await link.runLease(grantFor(nodeLink.peerId, 20), 0, rowInputs(0, 20), sink, NEVER);
    expect(end.end).toBe('cut');
    expect(link.nodes()).toHaveLength(1);
  });

  it('carries two chats at once over the open streams, and an abort to the one it is meant for', async () => {
    const aborted: string[] = [];
    duties.onChat = async (call) => {
      for (let i = 0; i < 5; i += 1) {
        await call.send({ type: 'delta', text: `${call.request.nonce.slice(-2)}:${i} `, tokens: [i] });
        await new Promise((resolve) => setTimeout(resolve, 20));
        if (call.signal.aborted) return void aborted.push(call.request.nonce);
      }
      await call.send({
        type: 'done',
        output: { kind: 'chat', tokens: [0, 1, 2, 3, 4], text: 'all', finish: 'stop', unitsIn: 1, unitsOut: 5 },
        root: `0x${'0'.repeat(64)}`,
        signature: `0x${'0'.repeat(130)}`,
      });
    };
    const stop = new AbortController();
    const grants = [grantFor(nodeLink.peerId, 1), grantFor(nodeLink.peerId, 1)] as const;
    const whole = (async () => {
      const texts: string[] = [];
      for await (const event of link.runStream(grants[0], CHAT, NEVER))
        if (event.type === 'delta') texts.push(event.text);
      return texts;
    })();
    const cut = (async () => {
      for await (const event of link.runStream(grants[1], CHAT, stop.signal)) if (event.type === 'delta') stop.abort();
    })();
    await expect(cut).rejects.toMatchObject({ code: 'ABORTED', retry: false });
    await expect(whole).resolves.toHaveLength(5);
    await eventually('the abort reached the node', () => aborted.length === 1);
    expect(aborted).toEqual([grants[1].nonce]);
  });

  it('tells the node of a process that came later, and the node keeps a control stream to it too', async () => {
    const second = coordinator(newKey(), notes);
    await second.listen(new TestEvents());
    const processes = [{ peer: second.peerId(), addresses: [...second.addresses()], role: 'scheduler' as const }];
    link.tell(nodeLink.peerId, { type: 'processes', processes });
    await eventually('both have the node', () => second.nodes().length === 1 && nodeLink.connected().length === 2);
    await second.close();
  });

  it('says that a refused chat may be tried elsewhere', async () => {
    const refused = (async () => {
      for await (const event of link.runStream(grantFor(nodeLink.peerId, 1), CHAT, NEVER))
        throw new Error(`unexpected ${event.type}`);
    })();
    await expect(refused).rejects.toEqual(new StreamRefused('NONE', 'no chat here', true));
  });

  it('asks an auditor for one score per row', async () => {
    const rows = [3, 9].map((rowNo) => ({
      rowNo,
      work: CHAT,
      committed: { kind: 'failed' as const, code: 'x', message: '' },
    }));
    const answer = await link.audit(nodeLink.peerId, { id: 'a', model: 'echo', digest: 'declared:echo' }, rows, NEVER);
    expect('scores' in answer && answer.scores.map((score) => score.rowNo)).toEqual([3, 9]);
  });
});
