import 'reflect-metadata';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Global, Module, type DynamicModule, type INestApplication } from '@nestjs/common';
import OpenAI from 'openai';
import { createSignatureCheck, createSigner } from '@freehold/chain';
import type { QueueLimits } from '@freehold/domain';
import {
  AccountStore,
  blobName,
  Blobs,
  Blocks,
  BooksWatch,
  createKey,
  createOrg,
  Entropy,
  FileStore,
  FineTuneStore,
  JobStore,
  LeaseStore,
  MonotonicClock,
  ObjectDesk,
  ObjectStore,
  OfferBook,
  ProviderLink,
  QueueView,
  Shards,
  Standstills,
  SignatureCheck,
  Signer,
  Statements,
  inputLines,
  type HoldsModel,
  type PlanAtHand,
  type PlannedTraining,
  TrainableBases,
  TrainerError,
  type TrainableBase,
} from '@freehold/market';
import {
  migrate,
  migrationFiles,
  openDatabase,
  PgAccountStore,
  PgBooksWatch,
  PgFileStore,
  PgFineTuneStore,
  PgJobStore,
  PgLeaseStore,
  PgOfferBook,
  PgQueueView,
  PgShards,
  PgStandstills,
  PgStatements,
  type Database,
} from '@freehold/persistence';
import { LINE_BYTES_MAX, type Catalogue, type ListPrices, type Scope, type TrainingPlan } from '@freehold/protocol';
import { DiskObjectStore } from '@freehold/storage';
import { DiskRoom } from '@freehold/wiring/disk-room';
import { templateDatabase, temporaryDatabase, testPostgres } from '@freehold/wiring/embedded';
import { createApi } from '../src/create-api.ts';
import { DOMAIN, FakeLink } from './fake-link.ts';

/** Parts into which the nodes of this house are divided. */
export const SHARDS = 4;

export const CATALOGUE: Catalogue = {
  v: 1,
  models: [
    {
      name: 'freehold-tiny',
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
    {
      name: 'use-lite',
      kind: 'embedding',
      description: 'an embedding model',
      licence: 'Apache-2.0',
      ownedBy: 'google',
      created: 1,
      contextTokens: 8_192,
      quantisation: 'F32',
      dimensions: 4,
      ceilings: { embeddingToken: '1000000' },
    },
  ],
};

export const LIST_PRICES: ListPrices = {
  v: 1,
  prices: [
    {
      kind: 'embedding',
      provider: 'Somebody',
      model: 'hosted-embedder',
      asOf: '2026-01-01',
      source: 'https://example.com/prices',
      microUsdPerMillion: { embeddingToken: '20000' },
    },
  ],
};

class Chance extends Entropy {
  bytes(length: number): Uint8Array {
    return randomBytes(length);
  }
}
class Clock extends MonotonicClock {
  nowMs(): number {
    return performance.now();
  }
}
/** One base, and no trainer: every example counts as ten tokens, and more than a hundred are too long for it. */
class OneBase extends TrainableBases {
  readonly #objects: ObjectStore;
  constructor(objects: ObjectStore) {
    super();
    this.#objects = objects;
  }
  all(): readonly TrainableBase[] {
    return [
      { model: 'freehold-tiny', sha256: 'ab'.repeat(32), contextTokens: 1_024, checkpointBytesMax: () => 1_048_576 },
    ];
  }
  async count(_plan: TrainingPlan, data: AsyncIterable<Uint8Array>): Promise<PlannedTraining> {
    let examples = 0;
    for await (const line of inputLines(data, LINE_BYTES_MAX)) if (line.text !== null) examples += 1;
    if (examples > 100)
      throw new TrainerError('example_too_long', 'It has 1,200 tokens, the context 1,024.', false, { line: 7 });
    const hash = 'cd'.repeat(32);
    const [tokens, trainedTokens] = [examples * 10, examples];
    return { planHash: hash, segments: 1, initialState: hash, examples, tokens, trainedTokens, contextTokens: 1_024 };
  }
  checkpointFacts(): Promise<null> {
    return Promise.resolve(null);
  }
  /** Its data lies in the object store, under the name that `path` of {@link ApiHouse.blobs} gives. */
  async with<T>(plan: TrainingPlan, data: string, use: (at: PlanAtHand) => Promise<T>): Promise<T> {
    const planned = await this.count(plan, this.#objects.read(data));
    const never = (): Promise<never> => Promise.reject(new Error('the api trains nothing'));
    return use({ planned, evaluate: never, export: never });
  }
}
class NamedBlobs extends Blobs {
  path(sha256: string): Promise<string> {
    return Promise.resolve(blobName(sha256));
  }
  read(): never {
    throw new Error('the api reads no blobs');
  }
  adopt(): Promise<never> {
    return Promise.reject(new Error('the api makes no blobs'));
  }
}
class NoChain extends Blocks {
  isAway = false;
  async height(): Promise<bigint> {
    if (this.isAway) throw new Error('the chain is away');
    return 1n;
  }
  async hash(): Promise<string> {
    return `0x${'00'.repeat(32)}`;
  }
}

export interface ApiHouse {
  readonly database: Database;
  readonly app: INestApplication<Server>;
  readonly url: string;
  readonly link: FakeLink;
  readonly jobs: JobStore;
  readonly fineTunes: FineTuneStore;
  readonly files: FileStore;
  readonly leases: LeaseStore;
  readonly objects: ObjectStore;
  readonly bases: TrainableBases;
  readonly blobs: Blobs;
  readonly accounts: AccountStore;
  readonly offers: OfferBook;
  readonly chain: { isAway: boolean };
  readonly holdsModel: HoldsModel;
  /** Read with each submission: a test may change it. At first every batch waits to be validated. */
  readonly begin: { bytesMax: number };
  /** Read with each submission: a test may change them. */
  readonly queueLimits: { -readonly [K in keyof QueueLimits]: QueueLimits[K] };
  /** Everything the api said, to look for what it must not say. */
  readonly said: string[];
  org(credit?: bigint): Promise<Tenant>;
  close(): Promise<void>;
}

export interface Tenant {
  readonly orgId: string;
  readonly key: string;
  readonly keyId: string;
  readonly client: OpenAI;
  addKey(options: {
    scopes?: readonly Scope[];
    dailyCap?: bigint;
  }): Promise<{ id: string; key: string; client: OpenAI }>;
}

@Global()
@Module({})
class TestPorts {}

/** The whole api on a real database and a real disk, over a link whose nodes live in this process. */
export async function apiHouse(
  options: {
    requestsPerMinute?: number;
    /** Where objects lie, and how much of that disk stays free. */
    disk?: { folder: string; minMib: number };
  } = {},
): Promise<ApiHouse> {
  const server = await testPostgres();
  const sums = migrationFiles().map(({ sha256 }) => sha256);
  const template = await templateDatabase(
    server.url,
    `api_${createHash('sha256').update(sums.join()).digest('hex').slice(0, 16)}`,
    async (url) => {
      const empty = await openDatabase({ url });
      await migrate(empty);
      await empty.close();
    },
  );
  const copy = await temporaryDatabase(server.url, template);
  const database = await openDatabase({ url: copy.url });
  const folder = mkdtempSync(join(options.disk?.folder ?? tmpdir(), 'freehold-api-'));
  const minMib = options.disk?.minMib ?? 0;
  const link = new FakeLink();
  const objects = new DiskObjectStore(folder, 'api', minMib * 1_048_576);
  const parts = {
    bases: new OneBase(objects),
    blobs: new NamedBlobs(),
    accounts: new PgAccountStore(database),
    files: new PgFileStore(database),
    jobs: new PgJobStore(database),
    fineTunes: new PgFineTuneStore(database),
    leases: new PgLeaseStore(database),
    offers: new PgOfferBook(database),
    objects,
  };
  const entropy = new Chance();
  const begin = { bytesMax: 0 };
  const queueLimits = { rows: 1e6, seconds: 1e6, ownRows: 1e6, ownSeconds: 1e6 };
  const chain = new NoChain();
  const said: string[] = [];
  const holdsModel = (): boolean => false;
  const say = (...facts: unknown[]): void => void said.push(JSON.stringify(facts));
  const app = await createApi(
    portsModule([
      [AccountStore, parts.accounts],
      [FileStore, parts.files],
      [JobStore, parts.jobs],
      [FineTuneStore, parts.fineTunes],
      [ObjectDesk, new ObjectDesk(parts.objects, new Clock())],
      [TrainableBases, parts.bases],
      [LeaseStore, parts.leases],
      [OfferBook, parts.offers],
      [QueueView, new PgQueueView(database)],
      [Shards, new PgShards(database)],
      [Standstills, new PgStandstills(database)],
      [BooksWatch, new PgBooksWatch(database)],
      [Statements, new PgStatements(database)],
      [ObjectStore, parts.objects],
      [ProviderLink, link],
      [Signer, createSigner(`0x${'77'.repeat(32)}`, DOMAIN)],
      [SignatureCheck, createSignatureCheck(DOMAIN)],
      [Blocks, chain],
      [Entropy, entropy],
      [MonotonicClock, new Clock()],
    ]),
    {
      catalogue: CATALOGUE,
      listPrices: LIST_PRICES,
      requestsPerMinute: options.requestsPerMinute ?? 100_000,
      queueLimits,
      shards: SHARDS,
      holdsModel,
      begin,
      notReady: () => [],
      disk: new DiskRoom(folder, minMib),
    },
    { report: say, request: say },
  );
  await app.listen(0, '127.0.0.1');
  const url = `http://127.0.0.1:${(app.getHttpServer().address() as AddressInfo).port}`;
  return {
    ...parts,
    database,
    app,
    url,
    link,
    chain,
    holdsModel,
    begin,
    queueLimits,
    said,
    org: (credit = 1_000_000_000n) => newTenant(parts.accounts, entropy, url, credit),
    close: async () => {
      app.getHttpServer().closeAllConnections();
      await app.close();
      await database.close();
      await copy.drop();
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function portsModule(ports: readonly (readonly [abstract new (...args: never[]) => object, object])[]): DynamicModule {
  return {
    module: TestPorts,
    providers: ports.map(([provide, useValue]) => ({ provide, useValue })),
    exports: ports.map(([provide]) => provide),
  };
}

async function newTenant(accounts: AccountStore, entropy: Entropy, url: string, credit: bigint): Promise<Tenant> {
  const clientOf = (apiKey: string): OpenAI => new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0 });
  const { orgId } = await createOrg({ accounts, entropy }, { name: 'a tenant', credit });
  const { id, key } = await createKey({ accounts, entropy }, { orgId });
  return {
    orgId,
    key,
    keyId: id,
    client: clientOf(key),
    addKey: async ({ scopes, dailyCap }) => {
      const more = { ...(scopes === undefined ? {} : { scopes }), ...(dailyCap === undefined ? {} : { dailyCap }) };
      const made = await createKey({ accounts, entropy }, { orgId, ...more });
      return { ...made, client: clientOf(made.key) };
    },
  };
}
