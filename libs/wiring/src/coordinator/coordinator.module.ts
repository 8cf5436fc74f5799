import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import {
  Global,
  Inject,
  Injectable,
  Module,
  type DynamicModule,
  type FactoryProvider,
  type OnApplicationShutdown,
  type Provider,
  type Type,
} from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import {
  AccountStore,
  Blobs,
  Blocks,
  BooksWatch,
  Entropy,
  FileStore,
  FineTuneStore,
  JobStore,
  LeaseStore,
  MonotonicClock,
  ObjectDesk,
  ObjectStore,
  OfferBook,
  Outbox,
  ProviderLink,
  QueueDesk,
  QueueView,
  Shards,
  Standstills,
  SignatureCheck,
  Signer,
  Statements,
  TrainableBases,
  WorkQueue,
  memoryListed,
} from '@freehold/market';
import { Libp2pProviderLink } from '@freehold/p2p';
import {
  Database,
  openDatabase,
  PgAccountStore,
  PgBooksWatch,
  PgFileStore,
  PgFineTuneStore,
  PgJobStore,
  PgLeadership,
  PgLeaseStore,
  PgOfferBook,
  PgOutbox,
  PgProcessRegister,
  PgQueueView,
  PgShards,
  PgStandstills,
  PgStatements,
} from '@freehold/persistence';
import { BullWorkQueue } from '@freehold/queue';
import { DiskObjectStore } from '@freehold/storage';
import { createSignatureCheck, createSigner, RpcBlocks, RpcEndpoints, SigningPool } from '@freehold/chain';
import type { CoordinatorConfig } from '../config.ts';
import { examineBooks, type Examination } from '../examine-books.ts';
import { LOCAL_MODELS } from '../models.ts';
import { readCatalogue } from './catalogue.ts';
import { HurriedNotice } from './hurried-notice.ts';
import { createLog, Log } from './log.ts';
import { AuditorMemory } from './auditor-memory.ts';
import { LocalBases } from './local-bases.ts';
import { OwnEngines } from './own-engines.ts';
import { ProcessDirectory } from './process-directory.ts';
import { createSettlement } from './chain-settlement.ts';
import { Failpoints } from './failpoints.ts';
import { StoreBlobs } from './store-blobs.ts';
import { SystemClock, SystemEntropy } from './surroundings.ts';
import { CoordinatorUseCases } from './use-cases.ts';

const MIB = 1_048_576;
export const COORDINATOR_CONFIG = Symbol('coordinator configuration');
export const CATALOGUE = Symbol('catalogue of models');
/**
 * What follows an answer waits so long for others to share statements and commits: verdicts come in groups, after the block
 * that draws them, and nobody waits for one while the first words of other answers do.
 */
const GROUP_MS = 100;
/** A message's place at its topic is taken until it is marked as done: two at a time finalise, one places. */
const DONE_MS = 5;
/** What a verdict asks for on its way. */
const ASK_MS = 2;
/** A process that dies between an acceptance and its voucher is stood in for by the queue after this. */
const SETTLE_MS = 5_000;
/** Two threads sign some 10,000 times a second: more than a coordinator ever accepts. */
const SIGNING_WORKERS_MAX = 2;

/** Every port of the market bound to its adapter, for api and scheduler alike. Ports are abstract classes: each is its own token. */
/** What outlives every handler is closed last: queue, engines, then the database with TypeORM's own shutdown. */
@Injectable()
class AdapterShutdown implements OnApplicationShutdown {
  readonly #queue: WorkQueue;
  readonly #engines: OwnEngines;
  readonly #bases: LocalBases;
  readonly #curve: SigningPool;

  constructor(
    @Inject(WorkQueue) queue: WorkQueue,
    @Inject(OwnEngines) engines: OwnEngines,
    @Inject(LocalBases) bases: LocalBases,
    @Inject(SigningPool) curve: SigningPool,
  ) {
    this.#queue = queue;
    this.#engines = engines;
    this.#bases = bases;
    this.#curve = curve;
  }

  async onApplicationShutdown(): Promise<void> {
    await Promise.all([this.#queue.close(), this.#engines.close(), this.#bases.close(), this.#curve.close()]);
  }
}

@Global()
@Module({})
export class CoordinatorModule {
  static async forRoot(config: CoordinatorConfig): Promise<DynamicModule> {
    const database = await openDatabase({
      url: config.databaseUrl,
      poolSize: config.databasePool,
      applicationName: `freehold-${config.role}`,
    });
    const failpoints = config.failpoint === null ? null : Failpoints.dyingAt(config.failpoint);
    const register = await PgProcessRegister.join(database, config.role);
    const providers = coordinatorProviders(config, database, register, failpoints).map((provider) =>
      failpoints === null ? provider : guarded(provider, failpoints),
    );
    return {
      module: CoordinatorModule,
      imports: [
        TypeOrmModule.forRootAsync({
          useFactory: () => ({ type: 'postgres' as const }),
          dataSourceFactory: () => Promise.resolve(database.dataSource),
        }),
      ],
      providers: [...providers, AdapterShutdown],
      exports: providers.map(tokenOf),
    };
  }
}

function coordinatorProviders(
  config: CoordinatorConfig,
  database: Database,
  register: PgProcessRegister,
  failpoints: Failpoints | null,
): Provider[] {
  const domain = { chainId: config.chainId, escrow: config.escrow };
  const log = createLog(config.role, config.logLevel);
  // Several processes may share the folder: what each keeps for itself bears its number.
  const owner = register.no === 0 ? config.role : `${config.role}-${register.no}`;
  const objects = new DiskObjectStore(join(config.dataDir, 'objects'), owner, config.diskFreeMibMin * MIB);
  const blobs = new StoreBlobs(objects, join(config.dataDir, `blobs-${owner}`));
  const desk = new ObjectDesk(objects, new SystemClock());
  const memory = new AuditorMemory(config.auditorMib);
  const bases = new LocalBases({
    modelsDir: join(config.dataDir, 'models'),
    memory,
    objects: blobs,
  });
  const rpc = new RpcEndpoints(config.rpcUrls, {
    chainId: config.chainId,
    note: (note) => log.warn(note, 'RPC endpoint'),
  });
  return [
    { provide: COORDINATOR_CONFIG, useValue: config },
    { provide: CATALOGUE, useFactory: () => readCatalogue() },
    { provide: Log, useValue: log },
    { provide: Database, useValue: database },
    ...stores(database, log),
    bind(ObjectStore, () => objects),
    bind(Blobs, () => blobs),
    { provide: LocalBases, useValue: bases },
    bind(TrainableBases, () => bases),
    { provide: ObjectDesk, useValue: desk },
    bind(
      WorkQueue,
      () =>
        new BullWorkQueue({
          ...(config.redisUrl === null ? { databaseUrl: config.databaseUrl } : { redisUrl: config.redisUrl }),
          onError: (error) => log.debug({ error: error.message }, 'queue'),
        }),
    ),
    bind(Entropy, () => new SystemEntropy()),
    bind(MonotonicClock, () => new SystemClock()),
    { provide: SigningPool, useFactory: () => new SigningPool(Math.min(SIGNING_WORKERS_MAX, availableParallelism())) },
    bindOver(Signer, SigningPool, (pool) => createSigner(config.delegateKey, domain, pool)),
    bindOver(SignatureCheck, SigningPool, (pool) => createSignatureCheck(domain, pool)),
    bind(Blocks, () => new RpcBlocks(rpc)),
    {
      provide: OwnEngines,
      useFactory: () =>
        new OwnEngines({
          models: LOCAL_MODELS,
          memory,
          dataDir: config.dataDir,
          objects: blobs,
        }),
    },
    { provide: ProcessDirectory, useFactory: () => directoryOf(register, config, log) },
    {
      provide: ProviderLink,
      inject: [SignatureCheck, Signer, ProcessDirectory],
      useFactory: (signatures: SignatureCheck, signer: Signer, directory: ProcessDirectory) =>
        providerLink(config, log, { peerKey: config.peerKey(register.no), signatures, signer, directory, desk }),
    },
    useCases({ config, database, log, rpc, failpoints, desk, bases, blobs }),
  ];
}

function directoryOf(register: PgProcessRegister, { shards }: CoordinatorConfig, log: Log): ProcessDirectory {
  return new ProcessDirectory({
    register,
    shards,
    report: (what, error) => log.warn({ error: String(error) }, what),
  });
}

/** What lies in Postgres. */
function stores(database: Database, log: Log): Provider[] {
  return [
    bind(AccountStore, () => new PgAccountStore(database)),
    bind(FileStore, () => new PgFileStore(database)),
    {
      provide: JobStore,
      inject: [Outbox],
      useFactory: (outbox: Outbox) => {
        const notice = new HurriedNotice(outbox, (error) => log.debug({ error: String(error) }, 'notice'));
        return new PgJobStore(database, (topic) => notice.hurry(topic));
      },
    },
    bind(FineTuneStore, () => new PgFineTuneStore(database)),
    bind(OfferBook, () => new PgOfferBook(database)),
    bind(QueueView, () => new PgQueueView(database)),
    bind(BooksWatch, () => new PgBooksWatch(database)),
    bind(Statements, () => new PgStatements(database)),
    bind(LeaseStore, () => new PgLeaseStore(database, { askMs: ASK_MS, acceptMs: GROUP_MS, settleMs: SETTLE_MS })),
    bind(Outbox, () => new PgOutbox(database, DONE_MS)),
    bind(Shards, () => new PgShards(database)),
    bind(Standstills, () => new PgStandstills(database)),
  ];
}

function useCases(parts: {
  readonly config: CoordinatorConfig;
  readonly database: Database;
  readonly log: Log;
  readonly rpc: RpcEndpoints;
  readonly failpoints: Failpoints | null;
  readonly desk: ObjectDesk;
  readonly bases: LocalBases;
  readonly blobs: StoreBlobs;
}): FactoryProvider<CoordinatorUseCases> {
  const { config, database, log, rpc, desk, bases, blobs } = parts;
  return {
    provide: CoordinatorUseCases,
    inject: [
      JobStore,
      ObjectStore,
      OfferBook,
      CATALOGUE,
      Outbox,
      WorkQueue,
      ProviderLink,
      Signer,
      OwnEngines,
      FineTuneStore,
      QueueView,
      LeaseStore,
    ],
    useFactory: (
      jobs: JobStore,
      objects: ObjectStore,
      offers: OfferBook,
      catalogue: ReturnType<typeof readCatalogue>,
      outbox: Outbox,
      queue: WorkQueue,
      link: ProviderLink,
      signer: Signer,
      engines: OwnEngines,
      fineTunes: FineTuneStore,
      view: QueueView,
      leases: LeaseStore,
    ) =>
      new CoordinatorUseCases({
        training: { jobs, fineTunes, objects, desk, bases, blobs },
        jobs,
        leases,
        link,
        objects,
        offers,
        catalogue,
        outbox,
        queue,
        drawKey: config.drawKey,
        queueDesk: new QueueDesk({
          ...{ queue: view, leases, link, clock: new SystemClock(), limits: config.queueLimits },
          listed: memoryListed(catalogue),
        }),
        report: (what, error) => log.warn({ error: String(error) }, what),
        holdsModel: (model) => engines.holds(model) || bases.holds(model),
        settlement: createSettlement({ ...parts, link, signer }),
        examine: () => examineOwnBooks({ config, database, rpc }, queue),
      }),
  };
}

/** One process at a time reads the whole history. */
async function examineOwnBooks(
  { config, database, rpc }: Readonly<{ config: CoordinatorConfig; database: Database; rpc: RpcEndpoints }>,
  queue: WorkQueue,
): Promise<Examination | null> {
  const { escrow, book } = config;
  return await new PgLeadership(database).attempt('doctor', () =>
    examineBooks({
      database,
      chain: { rpcUrl: rpc, escrow, book },
      queueEntries: async () => (queue instanceof BullWorkQueue ? await queue.entries() : null),
    }),
  );
}

function providerLink(
  config: CoordinatorConfig,
  log: Log,
  {
    peerKey,
    signatures,
    signer,
    directory,
    desk,
  }: Readonly<{
    peerKey: Uint8Array;
    signatures: SignatureCheck;
    signer: Signer;
    directory: ProcessDirectory;
    desk: ObjectDesk;
  }>,
): ProviderLink {
  return new Libp2pProviderLink({
    privateKeyHex: Buffer.from(peerKey).toString('hex'),
    listen: [`/ip4/${config.p2p.host}/tcp/${config.p2p.port}`],
    role: config.role,
    coordinator: config.name,
    delegate: signer.address,
    chainId: config.chainId,
    escrow: config.escrow,
    processes: () => directory.entries(),
    signatures,
    objects: desk,
    note: (note) => log.debug(note, 'p2p'),
  });
}

/** Ports whose calls are failpoints: all that hold, send or sign something for good. */
const GUARDED: ReadonlySet<unknown> = new Set([
  Blocks,
  FileStore,
  FineTuneStore,
  JobStore,
  LeaseStore,
  ObjectStore,
  Outbox,
  ProviderLink,
  SignatureCheck,
  Signer,
  WorkQueue,
]);

function guarded(provider: Provider, failpoints: Failpoints): Provider {
  const { provide, useFactory } = provider as FactoryProvider<object>;
  if (!GUARDED.has(provide) || useFactory === undefined) return provider;
  const name = (provide as Type<object>).name;
  return {
    ...(provider as FactoryProvider<object>),
    useFactory: async (...args: unknown[]) => failpoints.around(name, await useFactory(...args)),
  };
}

/** An abstract port over another provider. */
function bindOver<T, U>(
  port: abstract new (...args: never[]) => T,
  over: new (...args: never[]) => U,
  make: (under: U) => T,
): FactoryProvider<T> {
  return { provide: port, inject: [over], useFactory: make };
}

/** An abstract port and what stands behind it. */
function bind<T>(port: abstract new (...args: never[]) => T, make: () => T): FactoryProvider<T> {
  return { provide: port, useFactory: make };
}

function tokenOf(provider: Provider): FactoryProvider['provide'] {
  return (provider as FactoryProvider).provide;
}
