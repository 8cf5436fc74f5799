import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GrowingTree } from '@freehold/domain';
import {
  Engine,
  EngineError,
  type ChatDelta,
  type EngineDescription,
  type LeaseGrant,
  type LinkEvents,
  type RowInput,
  type RowSink,
  type SignedCheckpoint,
} from '@freehold/market';
import {
  canonicalHash,
  receiptClaim,
  receiptDigests,
  receiptHash,
  rowLeafHash,
  type ChatOutput,
  type ChatWork,
  type EmbeddingOutput,
  type EmbeddingWork,
  type FailedOutput,
  type HeldLease,
  type LeaseRef,
  type RowScore,
  type Work,
  type WorkOutput,
} from '@freehold/protocol';
import { Libp2pProviderLink, type LinkLimits } from '@freehold/p2p';
import { checkpointMessage, identityOf, signingWith } from '@freehold/wiring/node';
import { ObjectsAtHand } from './objects-at-hand.ts';
import { LoadTimes } from './load-times.ts';
import { Speeds } from './speeds.ts';
import { ProviderNode, type ProviderNodeParts } from './provider-node.ts';

export const ESCROW = `0x${'ee'.repeat(20)}`;
export const DOMAIN = { chainId: 31_337, escrow: ESCROW };
export const NEVER = new AbortController().signal;
export const newKey = (): string => randomBytes(32).toString('hex');

const folders: string[] = [];
/** For the end of a test file. */
export const removeFolders = async (): Promise<void> => {
  await Promise.all(folders.splice(0).map((folder) => rm(folder, { recursive: true, force: true })));
};
/** Gone with {@link removeFolders}. */
export const newFolder = async (): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'freehold-node-'));
  folders.push(folder);
  return folder;
};

export const CHAT_WORK: ChatWork = {
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
export const embedding = (text: string): EmbeddingWork => ({ kind: 'embedding', inputs: [text] });

/** The one input of the stream road's embeddings in these tests. */
export const QUESTION = 'a question';

/** A real engine in miniature: vectors and words that follow from the input, one sequence per slot, as slow as asked. */
export class TinyEngine extends Engine {
  rowMs = 0;
  tokenMs = 0;
  /** How long {@link QUESTION} takes. */
  questionMs = 0;
  broken = false;
  /** Of its vectors. */
  digest = 'declared:vectors';
  /** How many rows and chats it began. */
  began = 0;
  closed = false;
  /** Null: everything. */
  inMemory: ReadonlySet<string> | null = null;

  override loaded(): Promise<ReadonlySet<string> | null> {
    return Promise.resolve(this.inMemory);
  }

  async describe(): Promise<EngineDescription> {
    const caps = { tokens: true, logprobs: false, promptLogprobs: true, seed: true, lora: false, embeddings: false };
    return {
      engine: 'tiny',
      version: '1',
      engineClass: 'tiny/1',
      models: [
        {
          name: 'vectors',
          digest: this.digest,
          kind: 'embedding',
          quantisation: 'none',
          contextTokens: 512,
          slots: 2,
          caps: { ...caps, embeddings: true },
        },
        {
          name: 'words',
          digest: 'declared:words',
          kind: 'chat',
          quantisation: 'none',
          contextTokens: 512,
          slots: 2,
          caps,
        },
      ],
    };
  }

  async chat(
    _model: string,
    work: ChatWork,
    onDelta: (delta: ChatDelta) => void,
    signal: AbortSignal,
  ): Promise<ChatOutput | FailedOutput> {
    this.began += 1;
    const tokens = [...canonicalHash(work).subarray(0, 6)];
    for (const token of tokens) {
      await this.#pause(this.tokenMs, signal);
      onDelta({ text: `${token} `, tokens: [token] });
    }
    return {
      kind: 'chat',
      tokens,
      text: tokens.map((token) => `${token} `).join(''),
      finish: 'stop',
      unitsIn: 4,
      unitsOut: tokens.length,
    };
  }

  async embed(_model: string, work: EmbeddingWork, signal: AbortSignal): Promise<EmbeddingOutput | FailedOutput> {
    this.began += 1;
    if (this.broken) throw new EngineError('tiny_broken', 'it broke', false);
    await this.#pause(work.inputs[0] === QUESTION ? this.questionMs : this.rowMs, signal);
    return vectorFor(work);
  }

  async score(_model: string, rowNo: number, work: Work): Promise<RowScore> {
    return work.kind === 'chat'
      ? { kind: 'chat', rowNo, text: '', unitsIn: 4, tokens: [] }
      : { kind: 'embedding', rowNo, unitsIn: 3, cosine: 1, normDifference: 0, dimensions: 8 };
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    if (ms > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms);
        signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
      });
    }
    if (signal.aborted) throw new EngineError('aborted', 'The call was cancelled.', true);
  }
}

export function vectorFor(work: Work): EmbeddingOutput {
  const hash = canonicalHash(work);
  const vector = Float32Array.from({ length: 8 }, (_, i) => (hash[i] ?? 0) / 255);
  return { kind: 'embedding', vectors: [Buffer.from(vector.buffer).toString('base64')], dimensions: 8, unitsIn: 3 };
}

export class TestEvents implements LinkEvents {
  readonly held: HeldLease[][] = [];
  readonly yields: LeaseRef[] = [];
  readonly kepts: string[] = [];
  readonly vouchers: { bookEpoch: string; total: string }[][] = [];
  /** Which of the leases a node presents are still its own. */
  resume: (lease: HeldLease) => boolean = () => true;
  hello: LinkEvents['hello'] = async (_node, held, vouchers) => {
    this.held.push([...held]);
    this.vouchers.push([...vouchers]);
    return held.filter((lease) => this.resume(lease)).map(({ task, epoch }) => ({ task, epoch }));
  };
  renewed = async (): Promise<void> => undefined;
  heartbeat = (): void => undefined;
  refuse = async (): Promise<void> => undefined;
  yield = async (_nodeId: string, lease: LeaseRef): Promise<void> => void this.yields.push(lease);
  kept = async (_nodeId: string, task: string): Promise<void> => void this.kepts.push(task);
  gone = (): void => undefined;
}

/** A coordinator's end for a node: a real link, and what the scheduler would do with a lease, believing nothing. */
export class TestMarket {
  readonly key = newKey();
  readonly delegateKey = newKey();
  readonly delegate = identityOf(this.delegateKey).address;
  readonly signing = signingWith(this.delegateKey)(DOMAIN);
  events = new TestEvents();
  link: Libp2pProviderLink;
  #port = 0;

  constructor() {
    this.link = this.#newLink();
  }

  async open(limits: Partial<LinkLimits> = {}): Promise<void> {
    this.link = this.#newLink(limits);
    await this.link.listen(this.events);
    this.#port = Number(/tcp\/(\d+)/.exec(this.addresses[0] ?? '')?.[1] ?? 0);
  }

  /** Gone and back under the same name and address, as after a restart. */
  async reopen(limits: Partial<LinkLimits> = {}): Promise<void> {
    await this.link.close();
    await this.open(limits);
  }

  get addresses(): readonly string[] {
    return this.link.addresses();
  }

  async close(): Promise<void> {
    await this.link.close();
  }

  grant(nodeId: string, rows: number, change: Partial<LeaseGrant> = {}): LeaseGrant {
    return {
      task: randomUUID(),
      epoch: 1,
      nodeId,
      nonce: `0x${randomBytes(16).toString('hex')}`,
      model: 'vectors',
      digest: 'declared:vectors',
      engineClass: 'tiny/1',
      rates: { embeddingToken: 1_000_000n },
      rows,
      ...change,
    };
  }

  /**
   * An acceptance as the coordinator sends it: the receipt, and the delegate's signed voucher.
   *
   * @param about The rest of the receipt.
   */
  async acceptance(
    task: string,
    payee: string,
    money: { charge: bigint; fee: bigint; cumulative: bigint; total: bigint },
    about: Readonly<Record<string, unknown>> = {},
    order = 0,
  ) {
    const receipt = { v: 1, task, epoch: 1, ...about, charge: String(money.charge), fee: String(money.fee) };
    const claim = {
      book: `0x${'b0'.repeat(32)}`,
      epoch: 3n,
      payee,
      order: BigInt(order),
      orderParams: `0x${'00'.repeat(8)}`,
      cumulative: money.cumulative,
      total: money.total,
    };
    const voucher = { ...claim, receipt: receiptHash(receiptDigests(receipt, receiptClaim(claim))) };
    const signature = await this.signing.signer.sign('DelegateVoucher', voucher);
    return {
      type: 'accepted' as const,
      receipt,
      voucher: {
        ...voucher,
        epoch: 3,
        order,
        cumulative: String(money.cumulative),
        total: String(money.total),
        signature,
      },
    };
  }

  #newLink(limits: Partial<LinkLimits> = {}): Libp2pProviderLink {
    return new Libp2pProviderLink({
      privateKeyHex: this.key,
      listen: [`/ip4/127.0.0.1/tcp/${this.#port}`],
      role: 'scheduler',
      coordinator: 'test',
      delegate: this.delegate,
      ...DOMAIN,
      signatures: this.signing.signatures,
      limits,
    });
  }
}

/** Takes rows as the scheduler does: recomputes every root, checks every signature, refuses what does not agree. */
export class CheckingSink implements RowSink {
  readonly outputs = new Map<number, WorkOutput>();
  readonly checkpoints: SignedCheckpoint[] = [];
  readonly faults: string[] = [];
  readonly #grant: LeaseGrant;
  readonly #address: string;
  readonly #market: TestMarket;
  readonly #tree = new GrowingTree();
  readonly #from: number;
  onResults: (done: number) => Promise<void> | void = () => undefined;

  /** @param before What an earlier stream of the lease made durable up to its last checkpoint. */
  constructor(market: TestMarket, grant: LeaseGrant, address: string, before?: CheckingSink) {
    this.#market = market;
    this.#grant = grant;
    this.#address = address;
    this.#from = before?.durable ?? 0;
    for (let index = 0; index < this.#from; index += 1) {
      const output = before?.outputs.get(index);
      if (output !== undefined) this.#take(index, output);
    }
  }

  /** Rows under the last believed checkpoint, of this stream or the one before. */
  get durable(): number {
    return this.checkpoints.at(-1)?.n ?? this.#from;
  }

  results: RowSink['results'] = async (batch) => {
    for (const { index, output } of batch) this.#take(index, output);
    await this.onResults(this.outputs.size);
  };

  checkpoint: RowSink['checkpoint'] = async (checkpoint) => {
    const { n, root, signature, last } = checkpoint;
    const own = `0x${Buffer.from(this.#tree.root()).toString('hex')}`;
    const signer = await this.#market.signing.signatures.recover(
      'LeaseCheckpoint',
      checkpointMessage(this.#grant, n, root),
      signature,
    );
    if (n !== this.#tree.size) this.faults.push(`checkpoint ${n} after ${this.#tree.size}`);
    if (root !== own) this.faults.push(`root ${root} over rows that hash to ${own}`);
    if (signer !== this.#address) this.faults.push(`signed by ${signer ?? 'nobody'}`);
    if (last !== (n === this.#grant.rows)) this.faults.push(`last=${last} at ${n}`);
    this.checkpoints.push(checkpoint);
    return this.faults.length === 0;
  };

  #take(index: number, output: WorkOutput): void {
    this.outputs.set(index, output);
    this.#tree.addHash(rowLeafHash(this.#grant.task, 100 + index, embedding(`row ${index}`), output));
  }
}

export async function* rowInputs(from: number, rows: number): AsyncGenerator<RowInput> {
  for (let index = from; index < rows; index += 1) yield { index, rowNo: 100 + index, work: embedding(`row ${index}`) };
}

export interface Logged {
  readonly event: string;
  readonly detail: Record<string, unknown>;
}

export async function startedNode(
  market: TestMarket,
  engine: Engine,
  change: Partial<ProviderNodeParts> & { logs?: Logged[] } = {},
): Promise<ProviderNode> {
  const { logs, ...parts } = change;
  const dataDir = parts.dataDir ?? (await newFolder());
  const privateKeyHex = parts.privateKeyHex ?? newKey();
  const identity = identityOf(privateKeyHex);
  const log = (event: string, detail: Record<string, unknown>): void => void logs?.push({ event, detail });
  return await ProviderNode.start({
    dataDir,
    objects: await ObjectsAtHand.open(dataDir),
    speeds: await Speeds.open(dataDir, log),
    loads: await LoadTimes.open(dataDir, log),
    privateKeyHex,
    identity,
    payout: identity.address,
    coordinators: market.addresses,
    engines: [engine],
    seats: { rates: { embeddingToken: 1_000n }, slots: null, chatSharePercent: 50, model: null },
    machine: { gpus: [], cpuMilli: 1_000, memoryMib: 1_024, diskMib: 1_024, isolation: 'none' },
    region: 'local',
    noticeS: 1,
    exposureMax: 10n ** 12n,
    unsignedMax: 10n ** 12n,
    rpcUrl: null,
    signing: signingWith(privateKeyHex),
    pinned: { chainId: null, escrow: null },
    log,
    link: { redialFirstMs: 50, redialLastMs: 200 },
    ...parts,
  });
}

/** Waits for what real sockets and files bring about; fails with `what` after ten seconds. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  while (!(await holds())) {
    if (performance.now() > deadlineMs) throw new Error(`not within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
