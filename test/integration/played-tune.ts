import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, mkdirSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createSignatureCheck, createSigner } from '@freehold/chain';
import { GrowingTree } from '@freehold/domain';
import {
  blobName,
  Blobs,
  EngineError,
  fileObject,
  finishFineTune,
  MonotonicClock,
  ObjectDesk,
  runLease,
  toHex,
  trainerModel,
  validateFineTune,
  verifyResult,
  type Auditor,
  type Engine,
  type FineTuneAsked,
  type GrantedLease,
  type LeaseGrant,
  type ObjectStore,
  type RowInput,
  type RowSink,
  type RowsEnd,
  type TrainableBases,
  type Verified,
} from '@freehold/market';
import { PgOfferBook, type PgFineTuneStore, type PgJobStore } from '@freehold/persistence';
import {
  rowLeafHash,
  taskIdBytes,
  workOfLineBytes,
  type Catalogue,
  type SegmentOutput,
  type SegmentWork,
} from '@freehold/protocol';
import type { MarketWorld } from '../../libs/persistence/test/market-world.ts';
import { DOMAIN, OpenBlocks, panel, PlayedLink } from './played-lease.ts';

export const BASE = 'freehold-tiny';
export const TRAINING_RATE = 1_000_000n;
export const CATALOGUE: Catalogue = {
  v: 1,
  models: [
    {
      name: BASE,
      kind: 'chat',
      description: 'a chat model',
      licence: 'Apache-2.0',
      ownedBy: 'freehold',
      created: 1,
      contextTokens: 1_024,
      quantisation: 'F32',
      ceilings: { inputToken: '1000000', outputToken: '2000000' },
      trainingCeiling: '3000000',
    },
  ],
};
const never = new AbortController().signal;

class Clock extends MonotonicClock {
  nowMs(): number {
    return performance.now();
  }
}

/** Objects as files of one folder, fetched from the store where they are missing: what a node and an auditor each have. */
export class FolderBlobs extends Blobs {
  readonly folder: string;
  readonly #objects: ObjectStore;
  constructor(objects: ObjectStore, folder: string) {
    super();
    this.#objects = objects;
    this.folder = folder;
    mkdirSync(folder, { recursive: true });
  }
  async path(sha256: string): Promise<string> {
    const path = join(this.folder, sha256);
    if (!existsSync(path)) {
      const draft = join(this.folder, `.${randomUUID()}`);
      await pipeline(this.#objects.read(blobName(sha256)), createWriteStream(draft));
      await rename(draft, path);
    }
    return path;
  }
  read(path: string): AsyncIterable<Uint8Array> {
    return createReadStream(path);
  }
  async adopt(path: string, sha256: string): Promise<void> {
    await rename(path, join(this.folder, sha256));
  }
}

/** The moments at which a node can die on its way through one segment. */
export const MOMENTS = ['trained', 'brought', 'delivered', 'signed'] as const;
export type Death = { readonly segment: number; readonly moment: (typeof MOMENTS)[number] } | null;

interface TrainingNode {
  readonly id: string;
  readonly engine: Engine;
  readonly blobs: FolderBlobs;
  readonly desk: ObjectDesk;
}

/** A node's end of the leases of fine-tunes: its trainer is a real process, its link is played. */
class TrainingLink extends PlayedLink {
  readonly #node: TrainingNode;
  readonly #key: ReturnType<typeof createSigner>;
  readonly trained: number[] = [];
  death: Death = null;
  /** Called when a segment is trained and not delivered yet. */
  onTrained: (segment: number) => Promise<void> = () => Promise.resolve();

  constructor(key: ReturnType<typeof createSigner>, node: TrainingNode) {
    super(key, () => Promise.reject(new Error('segments alone are played here')));
    this.#key = key;
    this.#node = node;
  }

  override async runLease(
    grant: LeaseGrant,
    _from: number,
    inputs: AsyncIterable<RowInput>,
    sink: RowSink,
  ): Promise<RowsEnd> {
    const tree = new GrowingTree();
    for await (const { index, rowNo, work } of inputs) {
      if (work.kind !== 'segment') throw new Error('a row that is no segment');
      const end = await this.#segment(grant, { index, rowNo, work }, tree, sink);
      if (end !== null) return end;
    }
    return { end: 'committed' };
  }

  async #segment(
    grant: LeaseGrant,
    { index, rowNo, work }: { readonly index: number; readonly rowNo: number; readonly work: SegmentWork },
    tree: GrowingTree,
    sink: RowSink,
  ): Promise<RowsEnd | null> {
    const dies = (moment: (typeof MOMENTS)[number]): boolean =>
      this.death?.segment === rowNo && this.death.moment === moment;
    const gone: RowsEnd = { end: 'failed', code: 'NODE_GONE', message: 'the node died' };
    let output: SegmentOutput;
    try {
      output = await this.#node.engine.segment(grant.model, work, never);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      return { end: 'failed', code: error.code, message: error.message };
    }
    this.trained.push(rowNo);
    await this.onTrained(rowNo);
    if (dies('trained')) return gone;
    const { desk, blobs, id } = this.#node;
    const kept =
      (await desk.mayBring(id, output.checkpoint, output.checkpointBytes)) ??
      (await desk.keep(output.checkpoint, output.checkpointBytes, blobs.read(await blobs.path(output.checkpoint))));
    if (!kept.kept) return { end: 'failed', code: kept.code, message: kept.message };
    if (dies('brought')) return gone;
    try {
      await sink.results([{ index, output }]);
    } catch (error) {
      return { end: 'failed', code: 'REFUSED', message: String(error) };
    }
    if (dies('delivered')) return gone;
    tree.addHash(rowLeafHash(grant.task, rowNo, work, output));
    const [n, root] = [index + 1, toHex(tree.root())];
    const message = { task: toHex(taskIdBytes(grant.task)), epoch: BigInt(grant.epoch), n: BigInt(n), root };
    const signature = await this.#key.sign('LeaseCheckpoint', message);
    const last = n === grant.rows;
    if (!(await sink.checkpoint({ n, root, signature, last }))) return { end: 'failed', code: 'STOPPED', message: '' };
    return dies('signed') && !last ? gone : null;
  }
}

export interface TuneWorld {
  readonly world: MarketWorld;
  readonly objects: ObjectStore;
  readonly fineTunes: PgFineTuneStore;
  readonly jobs: PgJobStore;
  readonly bases: TrainableBases;
  /** Writes what is exported at the end. */
  readonly exporter: TrainableBases;
  readonly blobs: Blobs;
  /** Where nodes bring checkpoints; the same disk as `objects`, perhaps with less room. */
  readonly room?: ObjectStore;
}

export interface Trainee {
  readonly engine: Engine;
  readonly blobs: FolderBlobs;
}

/** A file of the requester's. */
export async function storedFile({ world, objects }: TuneWorld, org: string, text: string): Promise<string> {
  const id = `file-${randomBytes(8).toString('hex')}`;
  const bytes = Buffer.from(text);
  const body = (async function* (): AsyncGenerator<Uint8Array> {
    yield bytes;
  })();
  await objects.put(fileObject(id), body, bytes.length);
  await world.database.query(
    `INSERT INTO file (id, org_id, purpose, filename, bytes, sha256) VALUES ($1, $2, 'fine-tune', 'f.jsonl', $3, $4)`,
    [id, org, bytes.length, createHash('sha256').update(bytes).digest()],
  );
  return id;
}

/** A fine-tune on the market's real road: everything but the wires, the block and the clock of the queue is real. */
export class PlayedTune {
  readonly id: string;
  readonly orgId: string;
  readonly links: TrainingLink[] = [];
  readonly #where: TuneWorld;
  #desk: ObjectDesk;
  readonly #auditors: readonly Auditor[];

  private constructor(id: string, orgId: string, where: TuneWorld, auditors: readonly Auditor[]) {
    this.id = id;
    this.orgId = orgId;
    this.#where = where;
    this.#auditors = auditors;
    this.#desk = new ObjectDesk(where.room ?? where.objects, new Clock());
  }

  static async submit(
    where: TuneWorld,
    text: string,
    auditors: readonly Auditor[],
    asked: Partial<FineTuneAsked> & { readonly evaluationText?: string; readonly validationText?: string } = {},
  ): Promise<PlayedTune> {
    const orgId = await where.world.org(100_000_000n);
    const { evaluationText, validationText, ...more } = asked;
    const file = (of: string | undefined): Promise<string | null> =>
      of === undefined ? Promise.resolve(null) : storedFile(where, orgId, of);
    const [trainingFileId, evaluationId, validationFileId] = await Promise.all([
      storedFile(where, orgId, text),
      file(evaluationText),
      file(validationText),
    ]);
    const keyId = `key_${randomBytes(6).toString('hex')}`;
    await where.world.database.query(`INSERT INTO api_key (id, org_id, hash, hint) VALUES ($1, $2, $3, 'test')`, [
      keyId,
      orgId,
      randomBytes(32),
    ]);
    const id = `ftjob-${randomBytes(12).toString('hex')}`;
    await where.fineTunes.submit(
      {
        id,
        orgId,
        keyId,
        trainingFileId,
        asked: {
          base: BASE,
          suffix: 'desk',
          seed: 7,
          validationFileId,
          hyperparameters: { epochs: 1, batchSize: 2, learningRateMultiplier: 'auto' },
          hasMethod: true,
          segmentSteps: 2,
          ...more,
          evaluation:
            evaluationId === null
              ? null
              : { fileId: evaluationId, exactMatchMin: asked.evaluation?.exactMatchMin ?? 0 },
        },
        metadata: {},
        verify: 'spot',
        region: null,
        priority: 0,
        deadlineInMs: 3_600_000,
      },
      null,
    );
    const tune = new PlayedTune(id, orgId, where, auditors);
    const offers = new PgOfferBook(where.world.database);
    const { store: leases } = where.world;
    const link = { nodes: () => [] };
    await validateFineTune({ ...where, offers, leases, link, catalogue: CATALOGUE, holdsModel: () => true }, id, never);
    return tune;
  }

  /** The open run of segments goes to a new node; what came of it, and of its verification where it delivered anything. */
  async lease(
    trainee: Trainee,
    death: Death = null,
    onTrained?: (segment: number) => Promise<void>,
    onGranted?: () => Promise<void>,
  ): Promise<{ readonly end: RowsEnd; readonly verified: Verified | null }> {
    const { world } = this.#where;
    const key = createSigner(`0x${randomBytes(32).toString('hex')}`, DOMAIN);
    const nodeId = `peer${randomBytes(6).toString('hex')}`;
    const offer = world.offer(nodeId, 1);
    await world.store.rememberNode({ ...offer, offer: { ...offer.offer, address: key.address, payout: key.address } });
    const lease = await this.#granted(nodeId, trainee.engine);
    await onGranted?.();
    const link = new TrainingLink(key, { id: nodeId, desk: this.#desk, ...trainee });
    link.death = death;
    if (onTrained !== undefined) link.onTrained = onTrained;
    this.links.push(link);
    const { jobs, fineTunes, objects, bases, blobs } = this.#where;
    const ports = {
      leases: world.store,
      objects,
      link,
      signer: createSigner(`0x${randomBytes(32).toString('hex')}`, DOMAIN),
      signatures: createSignatureCheck(DOMAIN),
      blocks: new OpenBlocks(),
      readWork: workOfLineBytes,
      auditors: panel(...this.#auditors),
      drawSecret: () => Buffer.alloc(32, 7),
      feeBps: 500,
      training: { jobs, fineTunes, objects, desk: this.#desk, bases, blobs },
    };
    const end = await runLease(ports, lease, never);
    const view = await world.store.view(lease);
    const verified = view?.state === 'delivered' ? await verifyResult(ports, lease, never) : null;
    return { end, verified };
  }

  giveRoom(): void {
    this.#desk = new ObjectDesk(this.#where.objects, new Clock());
  }

  async #granted(nodeId: string, engine: Engine): Promise<GrantedLease> {
    const { world } = this.#where;
    const open = (await world.store.demand(64, 8)).find(({ jobId }) => jobId === this.id);
    const { engineClass, models } = await engine.describe();
    const [back] = open?.queued ?? [];
    const [lease] = await world.store.grant(
      [
        {
          ...world.wish(this.id, nodeId, back?.rowFrom ?? open?.nextRow ?? 0, back?.rowTo ?? open?.rowCount ?? 0),
          taskId: back?.taskId ?? null,
          epoch: back?.epoch ?? 1,
          model: trainerModel(BASE),
          digest: models[0]?.digest ?? '',
          engineClass,
          rates: { trainingToken: TRAINING_RATE },
        },
      ],
      60_000,
    );
    if (lease === undefined) throw new Error(`nothing of ${this.id} is open`);
    return lease;
  }

  async finish(): Promise<void> {
    const { jobs, fineTunes, objects, exporter: bases, blobs } = this.#where;
    await finishFineTune({ jobs, fineTunes, objects, desk: this.#desk, bases, blobs }, this.id, never);
  }

  async view(): Promise<NonNullable<Awaited<ReturnType<PgFineTuneStore['find']>>>> {
    const found = await this.#where.fineTunes.find(this.id);
    if (found === null) throw new Error(`${this.id} is gone`);
    return found;
  }

  /** Losses as the requester reads them, in the order of steps. */
  async curve(): Promise<number[]> {
    const listed = await this.#where.fineTunes.events(this.orgId, this.id, { limit: 200, after: null });
    return (listed?.items ?? [])
      .filter(({ data }) => data?.['train_loss'] !== undefined)
      .map(({ data }) => ({ step: Number(data?.['step']), loss: Number(data?.['train_loss']) }))
      .sort((a, b) => a.step - b.step)
      .map(({ loss }) => loss);
  }

  async said(): Promise<string> {
    const listed = await this.#where.fineTunes.events(this.orgId, this.id, { limit: 200, after: null });
    return (listed?.items ?? []).map(({ message }) => message).join('\n');
  }
}
