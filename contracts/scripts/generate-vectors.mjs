// Writes test/vectors/{pay,lanes,typed-data}.json: what TypeScript and Solidity must both compute. The arithmetic is done here
// from its definition, the hashes by viem, so that a vector agrees with neither side by construction. --check only compares.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeAbiParameters, hashDomain, hashStruct, hashTypedData, keccak256, toHex } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { ROOT } from './forge.mjs';

const FOLDER = join(ROOT, 'test', 'vectors');
const SEED = 'freehold typed-data vectors';
const MAX = (1n << 60n) - 1n;

// Node reads no TypeScript at 20: the type table is data, so its text is evaluated without the types.
async function typedData() {
  const { default: ts } = await import('typescript');
  const source = readFileSync(join(ROOT, 'libs/protocol/src/typed-data/types.ts'), 'utf8');
  const { outputText } = ts.transpileModule(source, { compilerOptions: { module: 'ESNext', target: 'ES2022' } });
  return import(`data:text/javascript;base64,${Buffer.from(outputText).toString('base64')}`);
}

function payVectors() {
  const claims = [];
  const lanes = [0n, 1n, 7n, 999_999n, 50_000_000n, MAX];
  for (const [cumulative, claimed] of [
    [0n, 0n],
    [1n, 0n],
    [19n, 0n],
    [1_000_000n, 999_999n],
    [1_234_567n, 1_234_567n],
    [5n, 9n],
    [50_000_001n, 1n],
    [MAX, 0n],
    [MAX, MAX - 1n],
  ]) {
    for (const lane of lanes) {
      for (const feeBps of [0n, 1n, 333n, 500n, 1_000n]) {
        const open = cumulative > claimed ? cumulative - claimed : 0n;
        const gross = open < lane ? open : lane;
        const fee = (gross * feeBps - ((gross * feeBps) % 10_000n)) / 10_000n;
        claims.push({ cumulative, claimed, lane, feeBps, gross, fee, net: gross - fee });
      }
    }
  }
  const epochs = [
    [0n, 0n, 500n],
    [100n, 95n, 500n],
    [100n, 94n, 500n],
    [100n, 100n, 0n],
    [100n, 99n, 0n],
    [100n, 101n, 1_000n],
    [19n, 18n, 500n],
    [20n, 19n, 500n],
    [1_000_000_007n, 950_000_007n, 500n],
    [1_000_000_007n, 950_000_006n, 500n],
    [MAX, MAX - MAX / 10n, 1_000n],
    [MAX, MAX - MAX / 10n - 1n, 1_000n],
  ].map(([debits, credits, feeBps]) => {
    const fee = debits - credits;
    const outcome = fee < 0n ? 'credits-above-debits' : fee * 10_000n > debits * feeBps ? 'fee-above-bound' : 'paid';
    return { debits, credits, feeBps, outcome, fee: fee < 0n ? 0n : fee };
  });
  return { about: 'fee = ⌊gross · feeBps / 10⁴⌋, gross = min(max(0, cumulative − claimed), lane)', claims, epochs };
}

function laneVectors() {
  const lists = [
    [],
    [[0, 1n]],
    [[3, MAX]],
    [
      [0, 1n],
      [1, 2n],
      [2, 3n],
      [3, 4n],
    ],
    [
      [1, 5n],
      [6, 7n],
      [4_095, 11n],
    ],
    [
      [2_047, MAX],
      [2_046, 1n],
      [8, 1_234_567n],
    ],
  ];
  const cases = lists.map((list) => {
    const text = new Map();
    for (const [index, amount] of list) {
      const place = index >> 2;
      const lanes = text.get(place) ?? [0n, 0n, 0n, 0n];
      lanes[index & 3] = amount;
      text.set(place, lanes);
    }
    // Fifteen hexadecimal digits are a lane, four are the head: written out as text, highest lane first.
    const words = [...text.entries()]
      .sort((a, b) => a[0] - b[0])
      .map(
        ([place, lanes]) =>
          `0x${place.toString(16).padStart(4, '0')}${[...lanes]
            .reverse()
            .map((lane) => lane.toString(16).padStart(15, '0'))
            .join('')}`,
      );
    return { indices: list.map(([index]) => index), amounts: list.map(([, amount]) => amount), words };
  });
  return { about: 'a word is four 60-bit lanes, lowest first, under a 16-bit head that names its place', cases };
}

const SAMPLE = {
  address: (seed) => `0x${keccak256(toHex(`address ${seed}`)).slice(26)}`,
  bytes32: (seed) => keccak256(toHex(`bytes32 ${seed}`)),
  bytes16: (seed) => keccak256(toHex(`bytes16 ${seed}`)).slice(0, 34),
  bytes8: (seed) => keccak256(toHex(`bytes8 ${seed}`)).slice(0, 18),
  uint64: (seed) => BigInt(keccak256(toHex(`uint64 ${seed}`)).slice(0, 17)),
  uint32: (seed) => BigInt(keccak256(toHex(`uint32 ${seed}`)).slice(0, 10)),
  uint16: (seed) => BigInt(keccak256(toHex(`uint16 ${seed}`)).slice(0, 6)),
};

async function typedDataVectors() {
  const { DOMAINS, DOMAIN_BY_TYPE, TYPES, encodeType } = await typedData();
  const account = privateKeyToAccount(keccak256(toHex(SEED)));
  const domains = {};
  for (const [name, domain] of Object.entries(DOMAINS)) {
    const full = { ...domain, chainId: 31_337, verifyingContract: SAMPLE.address(`contract ${name}`) };
    domains[name] = { ...full, separator: hashDomain({ domain: full, types: { EIP712Domain: DOMAIN_FIELDS } }) };
  }
  const messages = {};
  for (const [primaryType, fields] of Object.entries(TYPES)) {
    const { separator: _separator, ...domain } = domains[DOMAIN_BY_TYPE[primaryType]];
    const message = Object.fromEntries(fields.map(({ name, type }) => [name, SAMPLE[type](`${primaryType}.${name}`)]));
    const typed = { domain, types: { [primaryType]: fields }, primaryType, message };
    messages[primaryType] = {
      domain: DOMAIN_BY_TYPE[primaryType],
      type: encodeType(primaryType),
      typeHash: keccak256(toHex(encodeType(primaryType))),
      message,
      structHash: hashStruct({ data: message, primaryType, types: { [primaryType]: fields } }),
      digest: hashTypedData(typed),
      signature: await account.signTypedData(typed),
    };
  }
  return { privateKey: `keccak256(utf8('${SEED}'))`, signer: account.address.toLowerCase(), domains, messages };
}

const DOMAIN_FIELDS = [
  { name: 'name', type: 'string' },
  { name: 'version', type: 'string' },
  { name: 'chainId', type: 'uint256' },
  { name: 'verifyingContract', type: 'address' },
];

/** The ids that off-chain code computes without asking the chain. */
function idVectors() {
  const terms = {
    delegate: SAMPLE.address('delegate'),
    successor: SAMPLE.address('successor'),
    guardian: SAMPLE.address('guardian'),
    feeTo: SAMPLE.address('feeTo'),
    referees: SAMPLE.address('referees'),
    feeBps: 500n,
    start: 1_800_000_000n,
    epochLength: 86_400n,
    window: 21_600n,
    grace: 28_800n,
    penalty: 10_000_000n,
    depositMin: 1_000_000n,
    salt: SAMPLE.bytes32('salt'),
  };
  const types = [
    'address',
    'address',
    'address',
    'address',
    'address',
    'uint16',
    'uint64',
    'uint32',
    'uint32',
    'uint32',
    'uint64',
    'uint64',
    'bytes32',
  ];
  const encoded = encodeAbiParameters(
    types.map((type) => ({ type })),
    Object.values(terms),
  );
  return { about: 'book id = keccak256(abi.encode(BookTerms))', terms, book: keccak256(encoded) };
}

const text = (value) => `${JSON.stringify(value, (_, item) => (typeof item === 'bigint' ? String(item) : item), 2)}\n`;
const wanted = {
  'pay.json': text(payVectors()),
  'lanes.json': text(laneVectors()),
  'typed-data.json': text(await typedDataVectors()),
  'book-id.json': text(idVectors()),
};

mkdirSync(FOLDER, { recursive: true });
const stale = Object.entries(wanted).filter(([file, content]) => {
  const path = join(FOLDER, file);
  return !existsSync(path) || readFileSync(path, 'utf8') !== content;
});
if (process.argv.includes('--check')) {
  if (stale.length > 0) {
    process.stderr.write(
      `test/vectors is stale (${stale.map(([file]) => file).join(', ')}): node contracts/scripts/generate-vectors.mjs\n`,
    );
    process.exit(1);
  }
  process.stdout.write('test/vectors: the shared vectors are fresh\n');
} else {
  for (const [file, content] of stale) writeFileSync(join(FOLDER, file), content);
  process.stdout.write(`test/vectors: ${stale.length} of ${Object.keys(wanted).length} files rewritten\n`);
}
