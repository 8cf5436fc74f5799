import { readFileSync } from 'node:fs';
import { expect, it } from '@jest/globals';
import { hashDomain, hashStruct, hashTypedData, keccak256, recoverTypedDataAddress, toHex, type Hex } from 'viem';
import { DOMAINS, DOMAIN_BY_TYPE, TYPES, encodeType, isPrimaryType, type PrimaryType } from './types.ts';

interface Vectors {
  readonly signer: string;
  readonly domains: Record<
    string,
    { name: string; version: string; chainId: number; verifyingContract: Hex; separator: Hex }
  >;
  readonly messages: Record<
    string,
    {
      domain: string;
      type: string;
      typeHash: Hex;
      message: Record<string, string>;
      structHash: Hex;
      digest: Hex;
      signature: Hex;
    }
  >;
}

const vectors = JSON.parse(
  readFileSync(new URL('../../../../test/vectors/typed-data.json', import.meta.url), 'utf8'),
) as Vectors;
const names = Object.keys(TYPES) as PrimaryType[];

/** Integers travel as text in the vectors; viem wants bigint. */
function messageOf(name: PrimaryType): Record<string, unknown> {
  const message: Record<string, string> = vectors.messages[name]?.message ?? {};
  const entries = TYPES[name].map((field: { name: string; type: string }) => {
    const value = message[field.name] ?? '';
    return [field.name, field.type.startsWith('uint') ? BigInt(value) : value];
  });
  return Object.fromEntries(entries) as Record<string, unknown>;
}

it('has a vector for every message and a message for every vector', () => {
  expect(Object.keys(vectors.messages).sort()).toEqual([...names].sort());
  expect(Object.keys(vectors.domains).sort()).toEqual(Object.keys(DOMAINS).sort());
});

it.each(names)('hashes and signs %s as the contracts do', async (name) => {
  const vector = vectors.messages[name];
  if (vector === undefined) throw new Error(`no vector for ${name}`);
  const { separator: _separator, ...domain } = vectors.domains[DOMAIN_BY_TYPE[name]] ?? {};
  const typed = { domain, types: { [name]: TYPES[name] }, primaryType: name, message: messageOf(name) };
  expect(encodeType(name)).toBe(vector.type);
  expect(keccak256(toHex(encodeType(name)))).toBe(vector.typeHash);
  expect(hashStruct({ data: typed.message, primaryType: name, types: typed.types })).toBe(vector.structHash);
  expect(hashTypedData(typed)).toBe(vector.digest);
  const signer = await recoverTypedDataAddress({ ...typed, signature: vector.signature });
  expect(signer.toLowerCase()).toBe(vectors.signer);
});

it('gives another digest under another chain id, contract or version', () => {
  const { separator: _separator, ...domain } = vectors.domains['escrow'] ?? {};
  const order = { types: { Order: TYPES.Order }, primaryType: 'Order' as const, message: messageOf('Order') };
  const digests = [
    domain,
    { ...domain, chainId: 1 },
    { ...domain, verifyingContract: vectors.domains['panel']?.verifyingContract },
    { ...domain, version: '2' },
  ].map((changed) => hashTypedData({ ...order, domain: changed } as Parameters<typeof hashTypedData>[0]));
  expect(new Set(digests).size).toBe(4);
});

it('binds every domain to its separator', () => {
  for (const { separator, ...domain } of Object.values(vectors.domains)) {
    const types = {
      EIP712Domain: [
        { name: 'name', type: 'string' },
        { name: 'version', type: 'string' },
        { name: 'chainId', type: 'uint256' },
        { name: 'verifyingContract', type: 'address' },
      ],
    } as const;
    expect(hashDomain({ domain: { ...domain, chainId: BigInt(domain.chainId) }, types })).toBe(separator);
  }
});

it('knows its own names and no others', () => {
  expect(isPrimaryType('Order')).toBe(true);
  expect(isPrimaryType('toString')).toBe(false);
});
