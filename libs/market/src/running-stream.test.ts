import { describe, expect, it } from '@jest/globals';
import { GrowingTree } from '@freehold/domain';
import { rowLeafHash, type ChatOutput, type ChatWork } from '@freehold/protocol';
import type { StreamCandidate } from './choose-stream-nodes.ts';
import { toHex } from './hex.ts';
import type { LeaseGrant, StreamEvent } from './ports/provider-link.ts';
import { RunningStream } from './running-stream.ts';
import type { RunStreamPorts, StreamRequest } from './stream-request.ts';
import { FIRST_WORD_MS, REFUSED_REST_MS, StreamTries } from './stream-tries.ts';

const WORK = {
  kind: 'chat',
  messages: [{ role: 'user', content: 'hi' }],
  maxTokens: 8,
  adapter: null,
} as unknown as ChatWork; // what a running stream passes on
const NODE = {
  nodeId: 'n',
  address: '0xn',
  digest: 'd',
  engineClass: 'e',
  rates: {},
  cost: 0n,
} as unknown as StreamCandidate; // what a running stream reads of it
const delta = (text: string): StreamEvent => ({ type: 'delta', text, tokens: [] });

/** What the node commits to, over its own text. */
function done(grant: LeaseGrant, text: string, root?: string): StreamEvent {
  const output: ChatOutput = { kind: 'chat', text, tokens: [1], finish: 'stop', unitsIn: 1, unitsOut: 1 };
  const tree = new GrowingTree();
  tree.addHash(rowLeafHash(grant.task, 0, WORK, output));
  return { type: 'done', output, root: root ?? toHex(tree.root()), signature: 'its own' };
}

/** Requests to one node that answers each of them as it is told. */
class OneNode {
  nowMs = 0;
  height = async (): Promise<bigint | null> => null;
  readonly tries = new StreamTries({ nowMs: () => this.nowMs });

  /** @returns the words that came, and how it ended. */
  async ask(answer: (grant: LeaseGrant) => AsyncGenerator<StreamEvent>, giveUpAfterMs?: number): Promise<string> {
    const stop = new AbortController();
    const run = new RunningStream(this.#ports(answer), REQUEST, { candidates: [NODE] } as never, stop.signal);
    await run.open(NODE);
    let heard = '';
    const listening = (async (): Promise<string> => {
      for await (const step of run.answers()) heard += step.type === 'delta' ? step.text : '.';
      return heard;
    })();
    try {
      if (giveUpAfterMs === undefined) return await listening;
      for (let turn = 0; turn < 10; turn += 1) await new Promise(setImmediate);
      this.nowMs += giveUpAfterMs;
      stop.abort();
      return heard;
    } catch (error) {
      return (error as { readonly code: string }).code;
    } finally {
      listening.catch(() => undefined);
      await run.close();
    }
  }

  #ports(answer: (grant: LeaseGrant) => AsyncGenerator<StreamEvent>): RunStreamPorts {
    const done = async (): Promise<undefined> => undefined;
    return {
      tries: this.tries,
      entropy: { bytes: (length: number) => new Uint8Array(length) },
      link: { runStream: answer, tell: () => true },
      jobs: { openStream: async () => ({ opened: true }), failStream: done },
      objects: { append: done },
      leases: { checkpoint: async () => ({ moved: true }) },
      blocks: { height: () => this.height() },
      signatures: { recover: async () => '0xn' },
      report: () => undefined,
    } as unknown as RunStreamPorts; // all that one answer reaches
  }
}

const REQUEST = {
  ...{ requestId: 'r', orgId: 'o', keyId: 'k', kind: 'chat', endpoint: '/v1/chat/completions', model: 'm' },
  ...{ contextTokens: null, ceiling: null, work: WORK, line: '{}', metadata: {}, terms: {}, identity: null },
} as unknown as StreamRequest; // what a running stream looks at

describe('a node that is asked for an answer', () => {
  it('has not said its first word with a frame that has none in it', async () => {
    const node = new OneNode();
    const stalls = async function* (): AsyncGenerator<StreamEvent> {
      yield delta('');
      await new Promise(() => undefined);
    };
    const asked = node.ask(stalls, FIRST_WORD_MS);
    await asked;
    expect(node.tries.isResting('n')).toBe(true);
  });

  it('has said it with the first text, and owes nothing while more of it comes', async () => {
    const node = new OneNode();
    const slow = async function* (): AsyncGenerator<StreamEvent> {
      yield delta('');
      yield delta('a word');
      await new Promise(() => undefined);
    };
    expect(await node.ask(slow, FIRST_WORD_MS)).toBe('a word');
    expect(node.tries.isResting('n')).toBe(false);
  });

  it('has said it with a whole answer, however long it takes us to keep that', async () => {
    const node = new OneNode();
    node.height = () => new Promise(() => undefined);
    const answers = async function* (grant: LeaseGrant): AsyncGenerator<StreamEvent> {
      yield done(grant, 'a word');
    };
    await node.ask(answers, FIRST_WORD_MS);
    expect(node.tries.isResting('n')).toBe(false);
  });

  it.each([
    ['a forged commitment', '', '0x00'],
    ['another text than it sent', 'a lie', undefined],
  ])('rests for %s, for longer each time, though it said a word first', async (_, text, root) => {
    const node = new OneNode();
    const forges = async function* (grant: LeaseGrant): AsyncGenerator<StreamEvent> {
      yield delta('a word');
      yield done(grant, text === '' ? 'a word' : text, root);
    };
    for (const restMs of [1, 2, 4].map((times) => times * REFUSED_REST_MS)) {
      expect(await node.ask(forges)).toBe('forged_answer');
      node.nowMs += restMs - 1;
      expect(node.tries.isResting('n')).toBe(true);
      node.nowMs += 1;
      expect(node.tries.isResting('n')).toBe(false);
    }
  });

  it('begins anew with a whole answer that holds', async () => {
    const node = new OneNode();
    const answers = async function* (grant: LeaseGrant): AsyncGenerator<StreamEvent> {
      yield delta('a word');
      yield done(grant, 'a word');
    };
    for (let i = 0; i < 3; i += 1) {
      node.tries.asks('n').ended(true);
      node.nowMs += REFUSED_REST_MS;
      expect(node.tries.isResting('n')).toBe(false);
      expect(await node.ask(answers)).toBe('a word.');
    }
  });
});
