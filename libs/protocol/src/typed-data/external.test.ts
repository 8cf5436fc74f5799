import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from '@jest/globals';
import {
  concat,
  encodeAbiParameters,
  hashDomain,
  hashTypedData,
  keccak256,
  recoverTypedDataAddress,
  toHex,
  type Hex,
} from 'viem';
import { privateKeyToAccount } from 'viem/accounts';

const path = new URL('../../../../../shared/vectors/external-vectors.json', import.meta.url);
const present = existsSync(path);
if (!present) console.info('external vectors skipped: no ../shared');
const external = present ? (JSON.parse(readFileSync(path, 'utf8')) as External) : null;

interface External {
  readonly eip712_mail: { signer: string; domainSeparator: Hex; digest: Hex; signature: Hex };
  readonly eip3009_authorization: {
    domain: { name: string; version: string; chainId: number; verifyingContract: Hex };
    from: Hex;
    to: Hex;
    value: string;
    validAfter: string;
    validBefore: string;
    nonce: Hex;
    digest: Hex;
    signature: Hex;
  };
  readonly typeHashes: Record<string, Hex>;
  readonly openzeppelin_merkle_tree: {
    addressUint256: { leaves: [Hex, string][]; root: Hex; proof0: Hex[] };
  };
}

const DOMAIN_FIELDS = [
  { name: 'name', type: 'string' },
  { name: 'version', type: 'string' },
  { name: 'chainId', type: 'uint256' },
  { name: 'verifyingContract', type: 'address' },
] as const;
const AUTHORIZATION_FIELDS = [
  { name: 'from', type: 'address' },
  { name: 'to', type: 'address' },
  { name: 'value', type: 'uint256' },
  { name: 'validAfter', type: 'uint256' },
  { name: 'validBefore', type: 'uint256' },
  { name: 'nonce', type: 'bytes32' },
] as const;

const typeString = (name: string, fields: readonly { name: string; type: string }[]): string =>
  `${name}(${fields.map((field) => `${field.type} ${field.name}`).join(',')})`;

(present ? it : it.skip)("signs the specification's mail as the specification does", async () => {
  const mail = external?.eip712_mail;
  const domain = {
    name: 'Ether Mail',
    version: '1',
    chainId: 1,
    verifyingContract: '0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC',
  } as const;
  const person = [
    { name: 'name', type: 'string' },
    { name: 'wallet', type: 'address' },
  ] as const;
  const typed = {
    domain,
    types: {
      Person: person,
      Mail: [
        { name: 'from', type: 'Person' },
        { name: 'to', type: 'Person' },
        { name: 'contents', type: 'string' },
      ],
    },
    primaryType: 'Mail',
    message: {
      from: { name: 'Cow', wallet: '0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826' },
      to: { name: 'Bob', wallet: '0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB' },
      contents: 'Hello, Bob!',
    },
  } as const;
  const account = privateKeyToAccount(keccak256(toHex('cow')));
  expect(hashDomain({ domain: { ...domain, chainId: 1n }, types: { EIP712Domain: DOMAIN_FIELDS } })).toBe(
    mail?.domainSeparator,
  );
  expect(hashTypedData(typed)).toBe(mail?.digest);
  expect(await account.signTypedData(typed)).toBe(mail?.signature);
  expect(account.address).toBe(mail?.signer);
});

(present ? it : it.skip)('recovers the payer of the EIP-3009 sample', async () => {
  const sample = external?.eip3009_authorization;
  if (sample === undefined) throw new Error('no sample');
  const typed = {
    domain: sample.domain,
    types: { TransferWithAuthorization: AUTHORIZATION_FIELDS },
    primaryType: 'TransferWithAuthorization',
    message: {
      from: sample.from,
      to: sample.to,
      value: BigInt(sample.value),
      validAfter: BigInt(sample.validAfter),
      validBefore: BigInt(sample.validBefore),
      nonce: sample.nonce,
    },
  } as const;
  expect(hashTypedData(typed)).toBe(sample.digest);
  expect(await recoverTypedDataAddress({ ...typed, signature: sample.signature })).toBe(sample.from);
});

(present ? it : it.skip)('computes the published type hashes', () => {
  const permit = [
    { name: 'owner', type: 'address' },
    { name: 'spender', type: 'address' },
    { name: 'value', type: 'uint256' },
    { name: 'nonce', type: 'uint256' },
    { name: 'deadline', type: 'uint256' },
  ];
  const hashes = {
    Permit: keccak256(toHex(typeString('Permit', permit))),
    TransferWithAuthorization: keccak256(toHex(typeString('TransferWithAuthorization', AUTHORIZATION_FIELDS))),
    ReceiveWithAuthorization: keccak256(toHex(typeString('ReceiveWithAuthorization', AUTHORIZATION_FIELDS))),
    EIP712Domain4: keccak256(toHex(typeString('EIP712Domain', DOMAIN_FIELDS))),
  };
  expect(hashes).toEqual(external?.typeHashes);
});

(present ? it : it.skip)("rebuilds OpenZeppelin's tree of addresses and amounts", () => {
  const tree = external?.openzeppelin_merkle_tree.addressUint256;
  if (tree === undefined) throw new Error('no tree');
  const leaves = tree.leaves.map(([address, value]) =>
    keccak256(keccak256(encodeAbiParameters([{ type: 'address' }, { type: 'uint256' }], [address, BigInt(value)]))),
  );
  const [first, second] = leaves;
  if (first === undefined || second === undefined) throw new Error('two leaves expected');
  expect(keccak256(concat(BigInt(first) < BigInt(second) ? [first, second] : [second, first]))).toBe(tree.root);
  expect(tree.proof0).toEqual([second]);
});
