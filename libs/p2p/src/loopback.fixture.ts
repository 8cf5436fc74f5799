import { randomBytes, randomUUID } from 'node:crypto';
import { GrowingTree } from '@freehold/domain';
import {
  SignatureCheck,
  Signer,
  type LeaseGrant,
  type LinkEvents,
  type RowInput,
  type RowSink,
  type SignedCheckpoint,
  type TypedMessage,
} from '@freehold/market';
import {
  canonicalHash,
  rowLeafHash,
  type EmbeddingWork,
  type HeldLease,
  type Offer,
  type SignedOffer,
  type Work,
  type WorkOutput,
} from '@freehold/protocol';
import { hashMessage, recoverMessageAddress } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { Libp2pProviderLink } from './coordinator/libp2p-provider-link.ts';
import type { LinkLimits } from './coordinator/limits.ts';
import type { LinkNote } from './coordinator/options.ts';
import { identityOf } from './identity.ts';
import type { ChatCall, CoordinatorNews, NodeDuties, RowsCall, Welcome } from './node/duties.ts';
import { NodeLink } from './node/node-link.ts';
import type { NodeLinkLimits } from './node/limits.ts';
import { checkpointMessage, offerMessage } from './offer-message.ts';

export const newKey = (): string => randomBytes(32).toString('hex');

/** Real secp256k1 signatures over (type, canonical message): the domain does not matter between two ends of one test. */
export class TestSigner extends Signer {
  readonly #account;
  readonly address: string;
  constructor(keyHex: string) {
    super();
    this.#account = privateKeyToAccount(`0x${keyHex}`);
    this.address = this.#account.address.toLowerCase();
  }
  async sign(primaryType: string, message: TypedMessage): Promise<string> {
    return await this.#account.signMessage({ message: { raw: digestOf(primaryType, message) } });
  }
}

export class TestSignatures extends SignatureCheck {
  async recover(primaryType: string, message: TypedMessage, signature: string): Promise<string | null> {
    try {
      const address = await recoverMessageAddress({
        message: { raw: digestOf(primaryType, message) },
        signature: signature as `0x${string}`,
      });
      return address.toLowerCase();
    } catch {
      return null;
    }
  }
}

function digestOf(primaryType: string, message: TypedMessage): `0x${string}` {
  return hashMessage({ raw: canonicalHash({ primaryType, message }) });
}

export async function signedOffer(keyHex: string, change: Partial<Offer> = {}): Promise<SignedOffer> {
  const { peerId, address } = identityOf(keyHex);
  const offer: Offer = {
    v: 1,
    node: peerId,
    address,
    payout: address,
    seq: 1,
    expiresAt: Math.floor(Date.now() / 1_000) + 3_600,
    region: 'local',
    isolation: 'none',
    gpus: [],
    cpuMilli: 1_000,
    memoryMib: 512,
    diskMib: 1_024,
    engines: [
      {
        class: 'test/cpu',
        models: [
          {
            name: 'echo',
            digest: 'declared:echo',
            kind: 'embedding',
            quantisation: 'none',
            contextTokens: 512,
            slots: 2,
            loaded: true,
            caps: { tokens: true, logprobs: false, promptLogprobs: false, seed: true, lora: false, embeddings: true },
            rates: { embeddingToken: '10' },
            rowsPerSecond: 0,
          },
        ],
      },
    ],
    pools: [],
    noticeS: 0,
    exposureMax: '1000000',
    chatSharePercent: 50,
    ...change,
  };
  return { offer, signature: await new TestSigner(keyHex).sign('Offer', offerMessage(offer)) };
}

export const embedding = (text: string): EmbeddingWork => ({ kind: 'embedding', inputs: [text] });

/** A vector that depends on the input alone. */
export function embed(work: Work): WorkOutput {
  const hash = canonicalHash(work);
  const vector = Float32Array.from({ length: 8 }, (_, i) => (hash[i] ?? 0) / 255);
  return { kind: 'embedding', vectors: [Buffer.from(vector.buffer).toString('base64')], dimensions: 8, unitsIn: 3 };
}

/** Node-side duties of a node that answers everything at once and remembers what it was told. */
export class TestDuties implements NodeDuties {
  readonly keyHex: string;
  readonly signer: TestSigner;
  readonly news: CoordinatorNews[] = [];
  readonly welcomes: Welcome[] = [];
  leases: HeldLease[] = [];
  onRows: (call: RowsCall) => Promise<void> = async (call) => await serveRowsInOrder(call, this.signer);
  onChat: (call: ChatCall) => Promise<void> = async (call) =>
    await call.send({ type: 'refused', code: 'NONE', message: 'no chat here' });

  constructor(keyHex: string) {
    this.keyHex = keyHex;
    this.signer = new TestSigner(keyHex);
  }
  offer = async (): Promise<SignedOffer> => await signedOffer(this.keyHex);
  hello = async () => ({ offer: await this.offer(), leases: this.leases, vouchers: [], draining: false });
  pulse = () => ({ leases: this.leases, freeSlots: 2, busyChats: 0, draining: false });
  welcomed = async (_peer: string, welcome: Welcome): Promise<void> => void this.welcomes.push(welcome);
  told = async (_peer: string, news: CoordinatorNews): Promise<void> => void this.news.push(news);
  rows = async (call: RowsCall): Promise<void> => await this.onRows(call);
  chat = async (call: ChatCall): Promise<void> => await this.onChat(call);
  audit: NodeDuties['audit'] = async (call) => {
    for await (const row of call.rows) {
      await call.send({
        type: 'score',
        score: { kind: 'embedding', rowNo: row.rowNo, unitsIn: 3, cosine: 1, normDifference: 0, dimensions: 8 },
      });
    }
  };
}

/** Runs inputs one by one, with a checkpoint every four rows and the commit at the end. */
export async function serveRowsInOrder(
  call: RowsCall,
  signer: Signer,
  until = Number.POSITIVE_INFINITY,
): Promise<void> {
  const { lease } = call;
  const tree = new GrowingTree();
  await call.send({ type: 'started' });
  for (let done = lease.from; done < lease.rows;) {
    const message = await call.receive();
    if (message === null) return;
    if (message.type === 'ack') continue;
    const output = embed(message.work);
    tree.addHash(rowLeafHash(lease.task, message.rowNo, message.work, output));
    await call.send({ type: 'result', index: message.index, output });
    done += 1;
    const last = done === lease.rows;
    if (done % 4 === 0 || last) {
      const root = `0x${Buffer.from(tree.root()).toString('hex')}`;
      await call.send({
        type: 'checkpoint',
        n: done,
        root,
        signature: await signer.sign('LeaseCheckpoint', checkpointMessage(lease, done, root)),
        last,
      });
    }
    if (done >= until) return call.abort('gone');
  }
  while ((await call.receive()) !== null) continue;
}

export class TestEvents implements LinkEvents {
  readonly hellos: string[] = [];
  readonly renewals: number[] = [];
  readonly gones: string[] = [];
  readonly kepts: string[] = [];
  readonly yields: string[] = [];
  heartbeats = 0;
  resume: readonly HeldLease[] = [];
  hello: LinkEvents['hello'] = async (node, held) => {
    this.hellos.push(node.offer.node);
    return held.map(({ task, epoch }) => ({ task, epoch }));
  };
  renewed: LinkEvents['renewed'] = async (node) => void this.renewals.push(node.offer.seq);
  heartbeat = (): void => void (this.heartbeats += 1);
  refuse = async (): Promise<void> => undefined;
  yield = async (nodeId: string): Promise<void> => void this.yields.push(nodeId);
  kept = async (_nodeId: string, task: string): Promise<void> => void this.kepts.push(task);
  gone = (nodeId: string): void => void this.gones.push(nodeId);
}

export class MemorySink implements RowSink {
  readonly rows: { index: number; output: WorkOutput }[] = [];
  readonly checkpoints: SignedCheckpoint[] = [];
  batches = 0;
  pauseMs = 0;
  results: RowSink['results'] = async (batch) => {
    this.batches += 1;
    if (this.pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, this.pauseMs));
    this.rows.push(...batch);
  };
  checkpoint: RowSink['checkpoint'] = async (checkpoint) => {
    this.checkpoints.push(checkpoint);
    return true;
  };
}

export async function* rowInputs(from: number, rows: number): AsyncGenerator<RowInput> {
  for (let index = from; index < rows; index += 1) yield { index, rowNo: 100 + index, work: embedding(`row ${index}`) };
}

export function grantFor(nodeId: string, rows: number): LeaseGrant {
  return {
    task: randomUUID(),
    epoch: 1,
    nodeId,
    nonce: `0x${randomBytes(16).toString('hex')}`,
    model: 'echo',
    digest: 'declared:echo',
    engineClass: 'test/cpu',
    rates: { embeddingToken: 10n },
    rows,
  };
}

export function coordinator(
  keyHex: string,
  notes: LinkNote[],
  limits: Partial<LinkLimits> = {},
  listen = '/ip4/127.0.0.1/tcp/0',
): Libp2pProviderLink {
  return new Libp2pProviderLink({
    privateKeyHex: keyHex,
    listen: [listen],
    role: 'scheduler',
    coordinator: 'loopback',
    delegate: `0x${'11'.repeat(20)}`,
    chainId: 31_337,
    escrow: null,
    signatures: new TestSignatures(),
    limits,
    note: (note) => void notes.push(note),
  });
}

export function node(
  duties: TestDuties,
  coordinators: readonly string[],
  limits: Partial<NodeLinkLimits> = {},
): NodeLink {
  return new NodeLink({
    privateKeyHex: duties.keyHex,
    coordinators,
    agent: 'test/1',
    duties,
    limits: { redialFirstMs: 50, redialLastMs: 200, ...limits },
  });
}

/** Waits for a condition that real sockets bring about; fails with `what` after ten seconds. */
export async function eventually(what: string, holds: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > deadlineMs) throw new Error(`not within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
