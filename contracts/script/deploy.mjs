// Deploys the contracts of one market with viem and writes down where: contracts/deployments/<chainId>.json.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { createPublicClient, createWalletClient, getAddress, http, isAddress, keccak256, parseAbi } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';

const CONTRACTS = join(dirname(fileURLToPath(import.meta.url)), '..');
const ROOT = join(CONTRACTS, '..');
const DEVNET_CHAINS = new Set([31_337, 1_337]);
/** In the order of their constructors: the stake needs the panel, the escrow the stake. */
const SOURCES = {
  DevnetToken: 'contracts/src/devnet/DevnetToken.sol',
  RefereePanel: 'contracts/src/RefereePanel.sol',
  ProviderStake: 'contracts/src/ProviderStake.sol',
  ComputeEscrow: 'contracts/src/ComputeEscrow.sol',
  WorkLog: 'contracts/src/WorkLog.sol',
  ServiceRegistry: 'contracts/src/ServiceRegistry.sol',
};

const HELP = `node contracts/script/deploy.mjs --rpc URL --treasury ADDRESS --owner ADDRESS --referees A,B,C --threshold M [--token ADDRESS]
node contracts/script/deploy.mjs --verification-inputs FOLDER

  Deploys RefereePanel, ProviderStake, ComputeEscrow, WorkLog and ServiceRegistry over one ERC-20, checks what it deployed, and
  writes addresses, blocks, constructor arguments and code hashes to contracts/deployments/<chainId>.json.

  DEPLOYER_KEY   private key that pays for it (environment; it gets no rights)
  --token        the ERC-20; left out only on a local chain (31337, 1337), where a devnet token is deployed
  --referees     addresses, at most 15; they and --threshold can never be changed
  --owner        may pause deposits for up to 7 days; use a multisignature wallet
  --force        deploy again though the chain id is written down already (local chains never refuse)
  --verification-inputs   writes each contract's standard-JSON input, after compiling it again and comparing the bytecode
`;

function option(args, name) {
  const at = args.indexOf(`--${name}`);
  return at === -1 ? undefined : args[at + 1];
}

function requireAddress(args, name) {
  const value = option(args, name);
  if (value === undefined || !isAddress(value))
    throw new Error(`--${name}: expected an address, got ${value}. See --help.`);
  return getAddress(value);
}

/** The committed ABI and bytecode: the same that applications use. */
async function compiled(name) {
  const kebab = name.replace(/(?<=[a-z])(?=[A-Z])/g, '-').toLowerCase();
  const source = readFileSync(join(CONTRACTS, 'abi', `${kebab}.ts`), 'utf8');
  const { outputText } = ts.transpileModule(source, { compilerOptions: { module: 'ESNext', target: 'ES2022' } });
  const module = await import(`data:text/javascript;base64,${Buffer.from(outputText).toString('base64')}`);
  const camel = name[0].toLowerCase() + name.slice(1);
  return { abi: module[`${camel}Abi`], bytecode: module[`${camel}Bytecode`] };
}

async function deployer(rpc, key) {
  const account = privateKeyToAccount(key);
  const transport = http(rpc);
  const reader = createPublicClient({ transport });
  const id = await reader.getChainId();
  const chain = {
    id,
    name: `chain ${id}`,
    nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
    rpcUrls: { default: { http: [rpc] } },
  };
  const writer = createWalletClient({ account, chain, transport });
  const deploy = async (name, args) => {
    const { abi, bytecode } = await compiled(name);
    const hash = await writer.deployContract({ abi, bytecode, args });
    const receipt = await reader.waitForTransactionReceipt({ hash });
    if (receipt.status !== 'success' || !receipt.contractAddress)
      throw new Error(`${name}: transaction ${hash} failed`);
    const address = getAddress(receipt.contractAddress);
    const code = await reader.getCode({ address });
    process.stderr.write(`${name} at ${address} (block ${receipt.blockNumber}, ${receipt.gasUsed} gas)\n`);
    return {
      address,
      block: Number(receipt.blockNumber),
      transaction: hash,
      arguments: args,
      codeHash: keccak256(code),
    };
  };
  return { reader, deploy, chainId: id, account };
}

async function check(reader, record) {
  const abi = parseAbi([
    'function TOKEN() view returns (address)',
    'function STAKE() view returns (address)',
    'function REFEREES() view returns (address)',
    'function TREASURY() view returns (address)',
    'function owner() view returns (address)',
  ]);
  const at = (name) => record.contracts[name].address;
  const expected = [
    ['ComputeEscrow', 'TOKEN', record.token],
    ['ComputeEscrow', 'STAKE', at('ProviderStake')],
    ['ComputeEscrow', 'TREASURY', record.treasury],
    ['ComputeEscrow', 'owner', record.owner],
    ['ProviderStake', 'TOKEN', record.token],
    ['ProviderStake', 'REFEREES', at('RefereePanel')],
    ['ProviderStake', 'owner', record.owner],
  ];
  for (const [name, functionName, value] of expected) {
    const found = await reader.readContract({ address: at(name), abi, functionName });
    if (getAddress(found) !== getAddress(value))
      throw new Error(`${name}.${functionName}: expected ${value}, found ${found}`);
  }
}

/** Deploys a whole market and returns what was written down. */
export async function deployMarket({ rpc, key, token, treasury, owner, referees, threshold, force = false }) {
  const { reader, deploy, chainId } = await deployer(rpc, key);
  const path = join(CONTRACTS, 'deployments', `${chainId}.json`);
  const local = DEVNET_CHAINS.has(chainId);
  if (existsSync(path) && !force && !local)
    throw new Error(`${path} exists: chain ${chainId} has a market. --force deploys another one.`);
  if (token === undefined && !local) {
    throw new Error(
      `--token: chain ${chainId} is not a local one, and a token that anyone may mint must not stand there.`,
    );
  }
  const contracts = {};
  if (token === undefined) contracts.DevnetToken = await deploy('DevnetToken', []);
  const money = token ?? contracts.DevnetToken.address;
  const members = [...referees].sort((a, b) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1));
  contracts.RefereePanel = await deploy('RefereePanel', [String(threshold), members]);
  contracts.ProviderStake = await deploy('ProviderStake', [money, treasury, contracts.RefereePanel.address, owner]);
  contracts.ComputeEscrow = await deploy('ComputeEscrow', [money, contracts.ProviderStake.address, treasury, owner]);
  contracts.WorkLog = await deploy('WorkLog', []);
  contracts.ServiceRegistry = await deploy('ServiceRegistry', []);
  const record = { chainId, token: money, treasury, owner, referees: members, threshold, contracts };
  await check(reader, record);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify(record, null, 2)}\n`);
  return { record, path };
}

/** A verifier's input for each contract: the sources and settings that give exactly the committed bytecode. */
async function verificationInputs(folder) {
  const solc = createRequire(import.meta.url)('solc');
  mkdirSync(folder, { recursive: true });
  for (const [name, source] of Object.entries(SOURCES)) {
    const artifact = JSON.parse(readFileSync(join(CONTRACTS, 'out', `${name}.sol`, `${name}.json`), 'utf8'));
    const { compilationTarget: _target, ...settings } = artifact.metadata.settings;
    const sources = Object.fromEntries(
      Object.keys(artifact.metadata.sources).map((path) => [path, { content: readFileSync(join(ROOT, path), 'utf8') }]),
    );
    const input = {
      language: 'Solidity',
      sources,
      settings: { ...settings, outputSelection: { '*': { '*': ['evm.bytecode.object'] } } },
    };
    const output = JSON.parse(solc.compile(JSON.stringify(input)));
    const again = `0x${output.contracts?.[source]?.[name]?.evm.bytecode.object ?? ''}`;
    const { bytecode } = await compiled(name);
    if (again !== bytecode)
      throw new Error(
        `${name}: compiled again, its bytecode differs from contracts/abi. Run forge build and generate-abi.`,
      );
    writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(input, null, 2)}\n`);
    process.stdout.write(`${name}: ${Object.keys(sources).length} sources, bytecode as committed\n`);
  }
}

async function main(args) {
  if (args.length === 0 || args.includes('--help')) return void process.stdout.write(HELP);
  const folder = option(args, 'verification-inputs');
  if (folder !== undefined) return verificationInputs(folder);
  const key = process.env.DEPLOYER_KEY;
  if (!/^0x[0-9a-fA-F]{64}$/.test(key ?? ''))
    throw new Error('DEPLOYER_KEY: expected a private key as 0x and 64 hexadecimal digits.');
  const referees = (option(args, 'referees') ?? '').split(',').filter(Boolean);
  const wrong = referees.find((address) => !isAddress(address));
  if (referees.length === 0 || wrong !== undefined)
    throw new Error(`--referees: expected addresses, got ${wrong ?? 'none'}.`);
  const { record, path } = await deployMarket({
    rpc: option(args, 'rpc') ?? 'http://127.0.0.1:8545',
    key,
    token: option(args, 'token') === undefined ? undefined : requireAddress(args, 'token'),
    treasury: requireAddress(args, 'treasury'),
    owner: requireAddress(args, 'owner'),
    referees: referees.map((address) => getAddress(address)),
    threshold: Number(option(args, 'threshold')),
    force: args.includes('--force'),
  });
  process.stdout.write(
    `${JSON.stringify({ chainId: record.chainId, escrow: record.contracts.ComputeEscrow.address, path })}\n`,
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main(process.argv.slice(2)).catch((error) => {
    process.stderr.write(`deploy: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
}
