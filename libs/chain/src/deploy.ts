import {
  computeEscrowAbi,
  computeEscrowBytecode,
  devnetTokenAbi,
  devnetTokenBytecode,
  providerStakeAbi,
  providerStakeBytecode,
  refereePanelAbi,
  refereePanelBytecode,
  workLogAbi,
  workLogBytecode,
} from '@freehold/contracts';
import {
  createPublicClient,
  createTestClient,
  createWalletClient,
  defineChain,
  http,
  TransactionReceiptNotFoundError,
  zeroAddress,
  type Abi,
  type Account,
  type Chain,
  type Hex,
  type PublicClient,
  type TransactionReceipt,
  type WalletClient,
} from 'viem';
import { privateKeyToAccount } from 'viem/accounts';

export interface DevnetOptions {
  readonly rpcUrl: string;
  /** Pays for the deployment and owns the pause. On anvil, any key: it is given ether. */
  readonly deployerKey: Hex;
  readonly delegateKey: Hex;
  /** Where the fees go; the delegate itself when absent. */
  readonly feeTo?: Hex;
  readonly feeBps: number;
  readonly epochSeconds: number;
  readonly windowSeconds: number;
  readonly graceSeconds?: number;
  /** The delegate's bond, in the token's smallest unit. */
  readonly bond?: bigint;
}

export interface Devnet {
  readonly chainId: number;
  readonly token: Hex;
  readonly stake: Hex;
  readonly panel: Hex;
  readonly escrow: Hex;
  readonly workLog: Hex;
  readonly book: Hex;
  readonly fromBlock: bigint;
}

/** Gas money of a devnet account: 100 ether, far more than it can use. */
const ETHER = 100n * 10n ** 18n;
/** The longest the contract allows: a devnet that slept for a month still finds its book alive. */
const GRACE_SECONDS = 31 * 86_400;
const RPC_TIMEOUT_MS = 30_000;
const POLL_MS = 100;

/** Play money, referees, stake, escrow and one open book on a local chain. Needs an endpoint that gives out ether (anvil). */
export async function deployDevnet(options: DevnetOptions): Promise<Devnet> {
  const deployer = await devnetWallet(options.rpcUrl, options.deployerKey);
  const delegate = await devnetWallet(options.rpcUrl, options.delegateKey);
  const owner = deployer.account.address;
  const fromBlock = await deployer.reads.getBlockNumber({ cacheTime: 0 });
  // Beside the others: it depends on none of them.
  const [token, workLog] = await Promise.all([
    deploy(deployer, devnetTokenAbi, devnetTokenBytecode, []),
    deploy(delegate, workLogAbi, workLogBytecode, []),
  ]);
  const panel = await deploy(deployer, refereePanelAbi, refereePanelBytecode, [1n, [owner]]);
  const stake = await deploy(deployer, providerStakeAbi, providerStakeBytecode, [token, owner, panel, owner]);
  const escrow = await deploy(deployer, computeEscrowAbi, computeEscrowBytecode, [token, stake, owner, owner]);
  const book = await openBook(delegate, escrow, panel, options);
  if (options.bond !== undefined && options.bond > 0n) await addBond(delegate, { token, escrow, book }, options.bond);
  return { chainId: deployer.chain.id, token, stake, panel, escrow, workLog, book, fromBlock };
}

/** A requester's order on a devnet: mints the money, allows it, and opens. Real requesters do the same with their own wallets. */
export async function openDevnetOrder(
  rpcUrl: string,
  payerKey: Hex,
  devnet: Pick<Devnet, 'token' | 'escrow' | 'book'>,
  lanes: { readonly reserved: bigint; readonly free: bigint; readonly salt: Hex },
): Promise<number> {
  const payer = await devnetWallet(rpcUrl, payerKey);
  const address = payer.account.address;
  await mintAndAllow(payer, devnet, lanes.reserved + lanes.free);
  const terms = { book: devnet.book, payer: address, voucherKey: address, refundTo: address, ...lanes };
  const { orders } = await payer.reads.readContract({
    address: devnet.escrow,
    abi: computeEscrowAbi,
    functionName: 'bookOf',
    args: [devnet.book],
  });
  await write(payer, devnet.escrow, computeEscrowAbi, 'open', [terms]);
  return orders;
}

/** Announces that no work shall be charged to the order after the next epoch. */
export async function closeDevnetOrder(
  rpcUrl: string,
  payerKey: Hex,
  devnet: Pick<Devnet, 'escrow' | 'book'>,
  order: number,
): Promise<void> {
  await write(await devnetWallet(rpcUrl, payerKey), devnet.escrow, computeEscrowAbi, 'close', [devnet.book, order]);
}

export async function tokenBalance(rpcUrl: string, token: Hex, of: Hex): Promise<bigint> {
  const reads = createPublicClient({ transport: http(rpcUrl, { timeout: RPC_TIMEOUT_MS }) });
  return reads.readContract({ address: token, abi: devnetTokenAbi, functionName: 'balanceOf', args: [of] });
}

/** Lets a local chain's clock jump, so that a demonstration need not wait for an epoch and its window. */
export async function passChainTime(rpcUrl: string, seconds: number): Promise<void> {
  const test = createTestClient({ mode: 'anvil', transport: http(rpcUrl, { timeout: RPC_TIMEOUT_MS }) });
  await test.increaseTime({ seconds });
  await test.mine({ blocks: 1 });
}

interface DevnetWallet {
  readonly account: Account;
  readonly chain: Chain;
  readonly reads: PublicClient;
  readonly writes: WalletClient;
  /** Makes a block at once: a local chain has nobody who would wait for the next second. */
  readonly mine: () => Promise<void>;
}

async function devnetWallet(rpcUrl: string, key: Hex): Promise<DevnetWallet> {
  const transport = http(rpcUrl, { timeout: RPC_TIMEOUT_MS });
  const reads = createPublicClient({ transport, pollingInterval: POLL_MS });
  const chain = defineChain({
    id: await reads.getChainId(),
    name: 'devnet',
    nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
    rpcUrls: { default: { http: [rpcUrl] } },
  });
  const account = privateKeyToAccount(key);
  const test = createTestClient({ mode: 'anvil', transport });
  if ((await reads.getBalance({ address: account.address })) < ETHER / 10n) {
    await test.setBalance({ address: account.address, value: ETHER });
  }
  const mine = (): Promise<void> => test.mine({ blocks: 1 });
  return { account, chain, reads, writes: createWalletClient({ account, chain, transport }), mine };
}

async function openBook(delegate: DevnetWallet, escrow: Hex, panel: Hex, options: DevnetOptions): Promise<Hex> {
  const { timestamp } = await delegate.reads.getBlock({ blockTag: 'latest' });
  const address = delegate.account.address;
  const terms = {
    delegate: address,
    successor: zeroAddress,
    guardian: zeroAddress,
    feeTo: options.feeTo ?? address,
    referees: panel,
    feeBps: options.feeBps,
    start: timestamp,
    epochLength: options.epochSeconds,
    window: options.windowSeconds,
    grace: options.graceSeconds ?? GRACE_SECONDS,
    penalty: 0n,
    depositMin: 1n,
    salt: `0x${'00'.repeat(32)}` as Hex,
  };
  const book = await delegate.reads.readContract({
    address: escrow,
    abi: computeEscrowAbi,
    functionName: 'bookId',
    args: [terms],
  });
  await write(delegate, escrow, computeEscrowAbi, 'openBook', [terms]);
  return book;
}

async function addBond(
  delegate: DevnetWallet,
  devnet: Pick<Devnet, 'token' | 'escrow' | 'book'>,
  bond: bigint,
): Promise<void> {
  await mintAndAllow(delegate, devnet, bond);
  await write(delegate, devnet.escrow, computeEscrowAbi, 'addBond', [devnet.book, bond]);
}

async function mintAndAllow(
  wallet: DevnetWallet,
  { token, escrow }: Pick<Devnet, 'token' | 'escrow'>,
  amount: bigint,
): Promise<void> {
  await write(wallet, token, devnetTokenAbi, 'mint', [wallet.account.address, amount]);
  await write(wallet, token, devnetTokenAbi, 'approve', [escrow, amount]);
}

async function deploy(wallet: DevnetWallet, abi: Abi, bytecode: Hex, args: readonly unknown[]): Promise<Hex> {
  const { account, chain, writes } = wallet;
  const hash = await writes.deployContract({ account, chain, abi, bytecode, args });
  const { contractAddress } = await mined(wallet, hash);
  if (contractAddress === null || contractAddress === undefined) throw new Error(`deployment ${hash} made no contract`);
  return contractAddress;
}

async function write(
  wallet: DevnetWallet,
  address: Hex,
  abi: Abi,
  functionName: string,
  args: readonly unknown[],
): Promise<void> {
  const { account, chain, writes } = wallet;
  const hash = await writes.writeContract({ account, chain, address, abi, functionName, args });
  const { status } = await mined(wallet, hash);
  if (status !== 'success') throw new Error(`${functionName} on ${address} reverted in ${hash}`);
}

/** The receipt of a transaction that was sent. On a chain that makes blocks by the clock, ours is made now. */
async function mined({ reads, mine }: DevnetWallet, hash: Hex): Promise<TransactionReceipt> {
  const there = await reads.getTransactionReceipt({ hash }).catch((error: unknown) => {
    if (error instanceof TransactionReceiptNotFoundError) return null;
    throw error;
  });
  if (there !== null) return there;
  await mine();
  return await reads.waitForTransactionReceipt({ hash, timeout: RPC_TIMEOUT_MS });
}
