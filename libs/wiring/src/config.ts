import { createHmac, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FEE_PER_GAS_MAX, rpcUrls } from '@freehold/chain';
import { SHARDS_MAX, type QueueLimits } from '@freehold/domain';
import { z } from 'zod';
import { parseFailpoint, type Failpoint } from './coordinator/failpoints.ts';

const EthereumAddress = z.string().regex(/^0x[0-9a-fA-F]{40}$/);
/** Every read is asked of all of them. */
const RPC_URLS_MAX = 8;
const Port = z.coerce.number().int().min(0).max(65_535);

/** Everything a coordinator process reads from its environment; nothing else reads `process.env`. */
const Environment = z.object({
  DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }),
  REDIS_URL: z.url({ protocol: /^rediss?$/ }).optional(),
  /** Several, with commas between, are compared: what money depends on counts when a majority (never fewer than two) agrees. */
  RPC_URL: z
    .string()
    .transform((text) => [...rpcUrls(text)])
    .pipe(
      z
        .array(z.url({ protocol: /^https?$/ }))
        .min(1)
        .max(RPC_URLS_MAX),
    ),
  DATA_DIR: z.string().min(1),
  HTTP_HOST: z.string().default('127.0.0.1'),
  HTTP_PORT: Port.default(8080),
  P2P_HOST: z.string().default('127.0.0.1'),
  P2P_PORT: Port.default(0),
  CHAIN_ID: z.coerce.number().int().min(0).default(31_337),
  ESCROW_ADDRESS: EthereumAddress,
  TOKEN_ADDRESS: EthereumAddress,
  BOOK: z.string().regex(/^0x[0-9a-f]{64}$/),
  /** Where the escrow was deployed: nothing of ours is in earlier blocks. */
  ESCROW_BLOCK: z.coerce.bigint().min(0n).default(0n),
  /** The WorkLog that dates each epoch's work; without it nothing is anchored. */
  WORK_LOG_ADDRESS: EthereumAddress.optional(),
  /** Whose orders in the book stand behind credits (operator credits). */
  OPERATOR_PAYER: EthereumAddress.optional(),
  /** Blocks on a transaction, itself included, before it counts: 1 on a local chain, 12 or more where money is real. */
  CONFIRMATIONS: z.coerce.number().int().min(1).default(1),
  /** The most that a unit of gas may cost, in wei: transactions wait while it costs more. */
  FEE_PER_GAS_MAX: z.coerce.bigint().min(1n).default(FEE_PER_GAS_MAX),
  /** Credits below this wait for more before we pay for their withdrawal; smallest token unit. */
  PAYOUT_MIN: z.coerce.bigint().min(1n).default(1n),
  FEE_BPS: z.coerce.number().int().min(0).max(1_000).default(300),
  COORDINATOR_NAME: z
    .string()
    .regex(/^[\w.-]{1,64}$/)
    .default('freehold'),
  /** Memory for the coordinator's own auditor engines; 0 turns them off. */
  AUDITOR_MIB: z.coerce.number().int().min(0).default(1_024),
  /** Free space below which nothing new is taken, so that the database can still write what was accepted. */
  DISK_FREE_MIB_MIN: z.coerce.number().int().min(0).default(64),
  /** Batches are refused (429, with the time to wait) while more than this waits, of one model and of one requester of it. */
  QUEUE_ROWS_MAX: z.coerce.number().int().min(1).default(5_000_000),
  QUEUE_S_MAX: z.coerce.number().int().min(1).default(86_400),
  ORG_QUEUE_ROWS_MAX: z.coerce.number().int().min(1).default(2_000_000),
  ORG_QUEUE_S_MAX: z.coerce.number().int().min(1).default(43_200),
  /** Parts into which nodes are divided between schedulers; the same for all processes of a coordinator. */
  SHARDS: z.coerce.number().int().min(1).max(SHARDS_MAX).default(4),
  /** Two of them are a scheduler's for as long as it lives: its number and its shards. */
  DATABASE_POOL: z.coerce.number().int().min(4).max(100).default(8),
  /** For fault tests: this process kills itself there, e.g. `LeaseStore.accept:after#2`. */
  FREEHOLD_FAILPOINT: z
    .string()
    .refine(
      (text) => parseFailpoint(text) !== null,
      'expected PORT.method:before or PORT.method:after, and #N after it',
    )
    .optional(),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'silent']).default('info'),
});

export type CoordinatorRole = 'api' | 'scheduler';

export interface CoordinatorConfig {
  readonly role: CoordinatorRole;
  readonly name: string;
  readonly databaseUrl: string;
  readonly databasePool: number;
  readonly redisUrl: string | null;
  readonly shards: number;
  readonly queueLimits: QueueLimits;
  readonly rpcUrls: readonly string[];
  readonly dataDir: string;
  readonly http: { readonly host: string; readonly port: number };
  readonly p2p: { readonly host: string; readonly port: number };
  readonly chainId: number;
  readonly escrow: `0x${string}`;
  readonly token: `0x${string}`;
  /** The book in the escrow whose delegate this coordinator is. 32 bytes. */
  readonly book: `0x${string}`;
  readonly escrowBlock: bigint;
  readonly workLog: `0x${string}` | null;
  readonly operatorPayer: `0x${string}` | null;
  readonly confirmations: number;
  readonly feePerGasMax: bigint;
  readonly payoutMin: bigint;
  readonly feeBps: number;
  readonly auditorMib: number;
  readonly diskFreeMibMin: number;
  readonly logLevel: string;
  readonly failpoint: Failpoint | null;
  /** The delegate's key: signs countersignatures and vouchers. 0x… */
  readonly delegateKey: `0x${string}`;
  /** A process's libp2p identity, by its number within its role; derived from the delegate's key, so that restarts keep it. */
  readonly peerKey: (no: number) => Uint8Array;
  /** Secret part of every draw's seed. */
  readonly drawKey: Uint8Array;
}

/** Reads and checks the environment. @throws {ConfigError} naming every variable that is wrong and what it should be. */
export function readConfig(role: CoordinatorRole, environment: NodeJS.ProcessEnv = process.env): CoordinatorConfig {
  const parsed = Environment.safeParse(environment);
  if (!parsed.success)
    throw new ConfigError(parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`));
  const env = parsed.data;
  const key = coordinatorKey(env.DATA_DIR);
  return {
    role,
    name: env.COORDINATOR_NAME,
    databaseUrl: env.DATABASE_URL,
    databasePool: env.DATABASE_POOL,
    redisUrl: env.REDIS_URL ?? null,
    shards: env.SHARDS,
    queueLimits: {
      rows: env.QUEUE_ROWS_MAX,
      seconds: env.QUEUE_S_MAX,
      ownRows: env.ORG_QUEUE_ROWS_MAX,
      ownSeconds: env.ORG_QUEUE_S_MAX,
    },
    rpcUrls: env.RPC_URL,
    dataDir: env.DATA_DIR,
    http: { host: env.HTTP_HOST, port: env.HTTP_PORT },
    p2p: { host: env.P2P_HOST, port: env.P2P_PORT },
    chainId: env.CHAIN_ID,
    escrow: lowerHex(env.ESCROW_ADDRESS),
    token: lowerHex(env.TOKEN_ADDRESS),
    book: lowerHex(env.BOOK),
    escrowBlock: env.ESCROW_BLOCK,
    workLog: env.WORK_LOG_ADDRESS === undefined ? null : lowerHex(env.WORK_LOG_ADDRESS),
    operatorPayer: env.OPERATOR_PAYER === undefined ? null : lowerHex(env.OPERATOR_PAYER),
    confirmations: env.CONFIRMATIONS,
    feePerGasMax: env.FEE_PER_GAS_MAX,
    payoutMin: env.PAYOUT_MIN,
    feeBps: env.FEE_BPS,
    auditorMib: env.AUDITOR_MIB,
    diskFreeMibMin: env.DISK_FREE_MIB_MIN,
    logLevel: env.LOG_LEVEL,
    failpoint: env.FREEHOLD_FAILPOINT === undefined ? null : parseFailpoint(env.FREEHOLD_FAILPOINT),
    delegateKey: `0x${key.toString('hex')}`,
    peerKey: (no) => derive(key, no === 0 ? `peer/${role}` : `peer/${role}/${no}`),
    drawKey: derive(key, 'draw'),
  };
}

export class ConfigError extends Error {
  constructor(problems: readonly string[]) {
    super(
      `The environment is not what this process needs:\n${problems.map((problem) => `  ${problem}`).join('\n')}\nSee docs/operating/configuration.md.`,
    );
    this.name = 'ConfigError';
  }
}

/** The coordinator's one secret, made at the first start, readable by its owner alone. */
export function coordinatorKey(dataDir: string): Buffer {
  const file = join(dataDir, 'coordinator.key');
  if (!existsSync(file)) {
    mkdirSync(dataDir, { recursive: true });
    try {
      writeFileSync(file, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600, flag: 'wx' });
    } catch (error) {
      // Another process of this coordinator made it a moment ago: read that one.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
  const text = readFileSync(file, 'utf8').trim();
  if (!/^[0-9a-f]{64}$/.test(text))
    throw new ConfigError([
      `${file}: expected 64 hex digits, found ${text.length} characters. Restore the file from a backup, or remove it to start as a new coordinator.`,
    ]);
  return Buffer.from(text, 'hex');
}

function derive(key: Buffer, label: string): Uint8Array {
  return createHmac('sha256', key).update(`freehold/${label}`).digest();
}

function lowerHex(hex: string): `0x${string}` {
  return hex.toLowerCase() as `0x${string}`;
}
