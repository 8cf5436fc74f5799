import { join } from 'node:path';
import {
  Children,
  openDataFolder,
  refuseTakenPort,
  startPostgres,
  type EmbeddedPostgres,
  type RunningChild,
} from '@freehold/wiring/embedded';
import {
  checkServices,
  prepareChain,
  prepareDatabase,
  prepareRequester,
  rpcUrls,
  settleDevnet,
  type ChainRecord,
  type RequesterRecord,
  type SettledDevnet,
} from '@freehold/wiring/devnet';
import { writeMarketRecord } from '@freehold/wiring/operator';
import { forget, startServices, unlessAborted, urlsOf, type Services } from './services.ts';
import { portIn, rememberedPort, rememberPort } from './p2p-ports.ts';
import { entryOf, startReady, type ReadyChild, type ReadyLine } from './processes.ts';

export interface HouseOptions {
  readonly dataDir: string;
  readonly httpPort: number;
  readonly fresh: boolean;
  readonly say: (text: string) => void;
  /** Replaced by services of one's own. */
  readonly databaseUrl?: string | undefined;
  readonly redisUrl?: string | undefined;
  readonly rpcUrl?: string | undefined;
  /** Aborted while the house opens: what was started so far is stopped again. */
  readonly signal?: AbortSignal;
  /** For fault tests: shorter epochs, other settings of the coordinator's processes. */
  readonly environment?: Readonly<Record<string, string>>;
}

export interface NodeSpec {
  readonly name: string;
  readonly engine: string;
  readonly mode?: 'honest' | 'cheat' | 'flapper' | 'slow';
  /** Rates by unit kind, smallest token unit per million. */
  readonly rates: Readonly<Record<string, string>>;
  /** How often a supervisor brings it back. */
  readonly restarts?: number;
  readonly flags?: readonly string[];
}

export interface RunningNode extends ReadyChild {
  readonly name: string;
  readonly nodeId: string;
  readonly dataDir: string;
  /** Incarnations after the first. */
  deaths: number;
}

const NODE_RESTART_DELAY_MS = 300;
/** Nodes compute; on a machine of few cores api, scheduler and database, which others wait for, go before them (decision 58). */
const NODE_NICENESS = 10;

/**
 * One market on one machine: embedded services, the coordinator's two processes, nodes. Everything lives below one folder;
 * a killed run is cleaned up by the next one, and a second run on the same folder is refused.
 */
export class House {
  readonly dataDir: string;
  readonly children: Children;
  readonly databaseUrl: string;
  /** Where the house itself looks; its processes get all that `RPC_URL` lists. */
  readonly rpcUrl: string;
  readonly chain: ChainRecord;
  readonly requester: RequesterRecord;
  readonly #options: HouseOptions;
  readonly #services: Services;
  readonly nodes = new Map<string, RunningNode>();
  /** By the names of the processes: their roles, and `scheduler-2` for a second one. */
  readonly #coordinators = new Map<string, ReadyLine>();
  #isInterrupted = false;
  #closing: Promise<void> | null = null;

  private constructor(
    options: HouseOptions,
    parts: {
      children: Children;
      services: Services;
      databaseUrl: string;
      rpcUrl: string;
      chain: ChainRecord;
      requester: RequesterRecord;
    },
  ) {
    this.#options = options;
    this.dataDir = options.dataDir;
    this.children = parts.children;
    this.databaseUrl = parts.databaseUrl;
    this.rpcUrl = parts.rpcUrl;
    this.chain = parts.chain;
    this.requester = parts.requester;
    this.#services = parts.services;
  }

  /** Services up, schema migrated, contracts deployed, the requester's order funded. No process of ours yet. */
  static async open(options: HouseOptions): Promise<House> {
    const { dataDir, signal } = options;
    openDataFolder(dataDir);
    // The claim comes first: whoever holds the folder is told before anything of it is touched.
    const children = await Children.open(dataDir);
    const services: Services = { postgres: null, anvil: null };
    try {
      await refuseTakenPort(options.httpPort);
      await unlessAborted(signal, checkServices(urlsOf(options), dataDir));
      if (options.fresh) forget(dataDir);
      await startServices(options, services);
      const databaseUrl = options.databaseUrl ?? services.postgres?.socketUrl ?? '';
      const [rpcUrl = ''] = rpcUrls(options.rpcUrl ?? services.anvil?.url ?? '');
      options.say('Postgres and chain are up');
      const [, chain] = await unlessAborted(
        signal,
        Promise.all([prepareDatabase(databaseUrl), prepareChain({ rpcUrl, dataDir })]),
      );
      options.say(`contracts stand at ${chain.escrow}`);
      const requester = await unlessAborted(signal, prepareRequester({ databaseUrl, rpcUrl, dataDir, chain }));
      return new House(options, { children, services, databaseUrl, rpcUrl, chain, requester });
    } catch (error) {
      await Promise.all([services.postgres?.stop(), services.anvil?.stop()]);
      await children.close();
      throw error;
    }
  }

  /**
   * Starts api and scheduler side by side; returns where the API listens.
   *
   * @param environment Of the scheduler alone, for fault tests.
   */
  async startCoordinator(environment: Readonly<Record<string, string>> = {}): Promise<string> {
    await Promise.all([this.startProcess('api'), this.startProcess('scheduler', environment)]);
    writeMarketRecord(this.dataDir, {
      databaseUrl: this.databaseUrl,
      rpcUrl: this.#options.rpcUrl ?? this.rpcUrl,
      baseURL: this.baseURL,
      contracts: { ...this.chain },
      p2p: [...this.p2p],
    });
    return this.baseURL;
  }

  /** Where nodes join: of each process, all that it listens at. */
  get p2p(): readonly string[] {
    return [...this.#coordinators.values()].flatMap((line) => line.p2p ?? []);
  }

  get baseURL(): string {
    const url = this.#coordinators.get('api')?.baseURL;
    if (url === undefined) throw new Error('the api is not up');
    return url;
  }

  /** Starts (or, for fault tests, starts again) one of the coordinator's processes on the ports it had before. */
  async startProcess(
    role: 'api' | 'scheduler',
    environment: Readonly<Record<string, string>> = {},
    name: string = role,
  ): Promise<ReadyChild> {
    const before = this.#coordinators.get(name);
    // Nodes know the house by its addresses: they come back to where it was.
    const p2pPort = portIn(before?.p2p) ?? (await rememberedPort(this.dataDir, name));
    const httpPort = before?.baseURL === undefined ? this.#options.httpPort : Number(new URL(before.baseURL).port);
    const child = await startReady(this.children, {
      name,
      ipc: true,
      args: ['--enable-source-maps', '--max-old-space-size=512', entryOf(role)],
      env: {
        DATABASE_URL: this.databaseUrl,
        REDIS_URL: this.#options.redisUrl,
        RPC_URL: this.#options.rpcUrl ?? this.rpcUrl,
        DATA_DIR: this.dataDir,
        HTTP_PORT: String(role === 'api' ? httpPort : 0),
        P2P_PORT: String(p2pPort ?? 0),
        CHAIN_ID: String(this.chain.chainId),
        ESCROW_ADDRESS: this.chain.escrow,
        TOKEN_ADDRESS: this.chain.token,
        BOOK: this.chain.book,
        WORK_LOG_ADDRESS: this.chain.workLog,
        ESCROW_BLOCK: this.chain.fromBlock,
        ...this.#options.environment,
        ...environment,
      },
    });
    this.#coordinators.set(name, child.ready);
    rememberPort(this.dataDir, name, portIn(child.ready.p2p));
    return child;
  }

  async startNode(spec: NodeSpec): Promise<RunningNode> {
    const dataDir = join(this.dataDir, 'nodes', spec.name);
    const coordinators = [...this.#coordinators.values()].flatMap((line) => (line.p2p ?? []).slice(0, 1));
    let started = 0;
    const ready = await startReady(
      this.children,
      {
        name: spec.name,
        stopGroup: 'nodes',
        niceness: NODE_NICENESS,
        args: [
          '--max-old-space-size=256',
          entryOf('node'),
          'up',
          '--json',
          ...coordinators.flatMap((address) => ['--coordinator', address]),
          ...['--data', dataDir, '--engine', spec.engine, '--mode', spec.mode ?? 'honest'],
          ...Object.entries(spec.rates).flatMap(([kind, rate]) => ['--rate', `${kind}=${rate}`]),
          ...(spec.flags ?? []),
        ],
        env: { CHAIN_ID: String(this.chain.chainId), ESCROW_ADDRESS: this.chain.escrow, RPC_URL: this.rpcUrl },
        ...(spec.restarts === undefined
          ? {}
          : { restart: { attemptsMax: spec.restarts, delayMs: NODE_RESTART_DELAY_MS } }),
      },
      () => {
        started += 1;
        const node = this.nodes.get(spec.name);
        if (node !== undefined) node.deaths = started - 1;
      },
    );
    const node = { ...ready, name: spec.name, nodeId: ready.ready.node ?? '', dataDir, deaths: 0 };
    this.nodes.set(spec.name, node);
    return node;
  }

  /** Lets the running scheduler settle what was accepted, and says what the chain holds then. */
  settle(say: (text: string) => void, options: { readonly refund?: boolean } = {}): Promise<SettledDevnet> {
    const { databaseUrl, rpcUrl, dataDir, chain } = this;
    return settleDevnet({ databaseUrl, rpcUrl, dataDir, chain, say, ...options });
  }

  /** A new order for whoever goes on using the market after the job. */
  async fund(): Promise<void> {
    const { databaseUrl, rpcUrl, dataDir, chain } = this;
    await prepareRequester({ databaseUrl, rpcUrl, dataDir, chain });
  }

  child(name: string): RunningChild | undefined {
    return this.children.get(name);
  }

  get postgres(): EmbeddedPostgres | null {
    return this.#services.postgres;
  }

  /** For fault tests: the embedded Postgres dies without a word and comes back on its port. */
  async crashPostgres(): Promise<void> {
    const before = this.#services.postgres;
    if (before === null) throw new Error('there is no embedded Postgres to crash: DATABASE_URL points elsewhere');
    await before.stop('kill');
    this.#services.postgres = await startPostgres({ dataDir: join(this.dataDir, 'postgres'), port: before.port });
  }

  /** Everything stops on Ctrl-C too: processes first, then the services they need until their end. */
  closeOnSignals(): void {
    const before = async (): Promise<void> => {
      this.#isInterrupted = true;
      this.#options.say('stopping');
      return Promise.resolve();
    };
    this.children.closeOnSignals(before, () => this.#stopServices());
  }

  /** Whether a signal is closing the house: what fails from then on fails because of that. */
  get isInterrupted(): boolean {
    return this.#isInterrupted;
  }

  close(): Promise<void> {
    this.#closing ??= this.children.close().then(() => this.#stopServices());
    return this.#closing;
  }

  async #stopServices(): Promise<void> {
    await Promise.all([this.#services.postgres?.stop(), this.#services.anvil?.stop()]);
  }
}
