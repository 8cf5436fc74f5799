import { createSigner } from '@freehold/chain';
import { GrowingTree } from '@freehold/domain';
import {
  ProviderLink,
  Signer,
  StreamRefused,
  toHex,
  type ConnectedNode,
  type LeaseGrant,
  type LinkEvents,
  type RowsEnd,
  type StreamEvent,
} from '@freehold/market';
import {
  rowLeafHash,
  taskIdBytes,
  type CoordinatorMessage,
  type Offer,
  type SignedOffer,
  type Work,
  type WorkOutput,
} from '@freehold/protocol';

export const DOMAIN = { chainId: 31_337, escrow: `0x${'11'.repeat(20)}` };

/** What a node of the test does with a request. */
export type Behaviour =
  'answers' | 'refuses' | 'refuses-in-nuls' | 'breaks-after-one-token' | 'signs-another-root' | 'hangs' | 'too-long';

export type FakeRates = Partial<Record<'inputToken' | 'cachedInputToken' | 'outputToken' | 'embeddingToken', string>>;

export interface FakeNode {
  readonly node: ConnectedNode;
  readonly signer: Signer;
  behaviour: Behaviour;
  /** Requests that reached it, and those that were stopped. */
  readonly seen: { requests: number; aborted: number };
}

/** A link whose nodes are functions in this process. They sign with real keys: what reaches the stores is what real nodes send. */
export class FakeLink extends ProviderLink {
  readonly #nodes = new Map<string, FakeNode>();
  readonly told: { nodeId: string; message: CoordinatorMessage }[] = [];
  #events: LinkEvents | null = null;

  async listen(events: LinkEvents): Promise<void> {
    this.#events = events;
  }
  addresses(): readonly string[] {
    return ['/ip4/127.0.0.1/tcp/1'];
  }
  peerId(): string {
    return 'fake';
  }
  nodes(): readonly ConnectedNode[] {
    return [...this.#nodes.values()].map(({ node }) => node);
  }

  async connect(
    number: number,
    behaviour: Behaviour,
    rates: FakeRates = {},
    facts: Partial<Offer> = {},
  ): Promise<FakeNode> {
    const signer = createSigner(`0x${String(number).padStart(64, '0')}`, DOMAIN);
    const offer = { ...offerOf(number, signer.address, rates), ...facts };
    const signed: SignedOffer = { offer, signature: `0x${'00'.repeat(65)}` };
    await this.#events?.hello(signed, [], []);
    const node = {
      id: offer.node,
      address: signer.address,
      offer,
      freeSlots: 2,
      busyChats: 0,
      draining: false,
      leases: [],
      lastHeardMs: 0,
    };
    const fake: FakeNode = { node, signer, behaviour, seen: { requests: 0, aborted: 0 } };
    this.#nodes.set(offer.node, fake);
    return fake;
  }

  disconnect(nodeId: string): void {
    this.#nodes.delete(nodeId);
  }

  disconnectAll(): void {
    this.#nodes.clear();
  }

  async runLease(): Promise<RowsEnd> {
    return { end: 'refused', code: 'NOT_HERE', message: 'this link runs streams only' };
  }

  async *runStream(grant: LeaseGrant, work: Work, signal: AbortSignal): AsyncIterable<StreamEvent> {
    const fake = this.#nodes.get(grant.nodeId);
    if (fake === undefined) throw new StreamRefused('NODE_GONE', 'not connected', true);
    fake.seen.requests += 1;
    signal.addEventListener('abort', () => (fake.seen.aborted += 1), { once: true });
    if (fake.behaviour === 'refuses-in-nuls') throw new StreamRefused('\u0000\ud800', 'no\u0000', true);
    if (fake.behaviour === 'refuses') throw new StreamRefused('NO_SLOT', 'no slot', true);
    if (fake.behaviour === 'hangs') {
      yield { type: 'delta', text: 'Once', tokens: [1] };
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      throw new StreamRefused('ABORTED', 'given up', false);
    }
    const output =
      fake.behaviour === 'too-long'
        ? ({ kind: 'failed', code: 'context_length_exceeded', message: 'too long' } as const)
        : answerTo(work);
    if (output.kind === 'chat') {
      for (const [index, text] of output.text.split(/(?<= )/).entries()) {
        yield { type: 'delta', text, tokens: [index] };
        if (fake.behaviour === 'breaks-after-one-token') throw new StreamRefused('ENGINE_DIED', 'engine died', false);
      }
    }
    yield await signedAnswer(fake, grant, work, output);
  }

  async audit(): Promise<{ type: 'refused'; code: string; message: string }> {
    return { type: 'refused', code: 'NOT_HERE', message: 'no audits' };
  }
  tell(nodeId: string, message: CoordinatorMessage): boolean {
    this.told.push({ nodeId, message });
    return this.#nodes.has(nodeId);
  }
  async close(): Promise<void> {
    this.#nodes.clear();
  }
}

async function signedAnswer(fake: FakeNode, grant: LeaseGrant, work: Work, output: WorkOutput): Promise<StreamEvent> {
  const tree = new GrowingTree();
  tree.addHash(rowLeafHash(grant.task, 0, work, output));
  const root = fake.behaviour === 'signs-another-root' ? `0x${'ab'.repeat(32)}` : toHex(tree.root());
  const signature = await fake.signer.sign('LeaseCheckpoint', {
    task: toHex(taskIdBytes(grant.task)),
    epoch: BigInt(grant.epoch),
    n: 1n,
    root,
  });
  return { type: 'done', output, root, signature };
}

/** The last user message in capitals; vectors that count the text's letters. */
export function answerTo(work: Work): WorkOutput {
  if (work.kind === 'segment') throw new Error('segments are leased, not streamed');
  if (work.kind === 'embedding') {
    const vectors = work.inputs.map((input) =>
      Buffer.from(Float32Array.from({ length: 4 }, (_, i) => input.length / (i + 1)).buffer).toString('base64'),
    );
    return { kind: 'embedding', vectors, dimensions: 4, unitsIn: work.inputs.length };
  }
  const text = (work.messages.at(-1)?.content ?? '').toUpperCase();
  const tokens = text.split(' ').map((_, index) => index);
  const logprobs = work.logprobs ? text.split(/(?<= )/).map((token) => ({ token, logprob: -0.5, top: [] })) : undefined;
  return {
    kind: 'chat',
    tokens,
    text,
    finish: 'stop',
    unitsIn: 7,
    unitsOut: tokens.length,
    ...(logprobs === undefined ? {} : { logprobs }),
  };
}

let offersMade = 0;
const CAPS = { tokens: true, logprobs: true, promptLogprobs: true, seed: true, lora: false, embeddings: true };

function offerOf(number: number, address: string, rates: FakeRates): Offer {
  const model = {
    digest: `sha256:${'5'.repeat(64)}`,
    quantisation: 'F32',
    contextTokens: 1_024,
    slots: 2,
    loaded: true,
    caps: CAPS,
    rowsPerSecond: 10,
  };
  return {
    v: 1,
    node: `16Uiu2HAm${'TestNode'.padEnd(40, 'abcdefghijk')}${number}`.replace(/[0OIl]/g, 'x'),
    address,
    payout: address,
    seq: (offersMade += 1),
    expiresAt: Math.floor(Date.now() / 1_000) + 3_600,
    region: 'test',
    isolation: 'none',
    gpus: [],
    cpuMilli: 1_000,
    memoryMib: 1_024,
    diskMib: 1_024,
    engines: [
      {
        class: 'test-engine/cpu/F32',
        models: [
          {
            ...model,
            name: 'freehold-tiny',
            kind: 'chat',
            rates: {
              inputToken: rates.inputToken ?? '1000000',
              outputToken: rates.outputToken ?? '2000000',
              ...(rates.cachedInputToken === undefined ? {} : { cachedInputToken: rates.cachedInputToken }),
            },
          },
          {
            ...model,
            name: 'use-lite',
            kind: 'embedding',
            rates: { embeddingToken: rates.embeddingToken ?? '1000000' },
          },
        ],
      },
    ],
    pools: [],
    noticeS: 0,
    exposureMax: '1000000000',
    chatSharePercent: 50,
  };
}
