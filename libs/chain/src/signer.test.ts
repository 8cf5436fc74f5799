import { createECDH, randomBytes } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { DOMAIN_BY_TYPE, DOMAINS, TYPES, type PrimaryType } from '@freehold/protocol';
import fc from 'fast-check';
import { hashTypedData, recoverAddress, verifyTypedData, type Hex } from 'viem';
import { privateKeyToAccount, sign } from 'viem/accounts';
import { recoverDigest, signDigest } from './curve.ts';
import { addressOfPublicKey, createSignatureCheck, createSigner } from './signer.ts';
import { SigningPool } from './signing-pool.ts';
import { typedDigest, type SigningDomain } from './typed-digest.ts';

const KEY: Hex = `0x${'4b'.repeat(32)}`;
const DOMAIN: SigningDomain = {
  chainId: 31_337,
  escrow: `0x${'e5'.repeat(20)}`,
  panel: `0x${'a1'.repeat(20)}`,
  registry: `0x${'b2'.repeat(20)}`,
};
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

/** A message of any type with every member filled. */
function sample(primaryType: PrimaryType): Record<string, unknown> {
  const values: Readonly<Record<string, unknown>> = {
    address: `0x${'0c'.repeat(20)}`,
    bytes32: `0x${'1d'.repeat(32)}`,
    bytes16: `0x${'2e'.repeat(16)}`,
    bytes8: `0x${'3f'.repeat(8)}`,
  };
  return Object.fromEntries(TYPES[primaryType].map(({ name, type }) => [name, values[type] ?? 7n]));
}

describe('signer', () => {
  const signer = createSigner(KEY, DOMAIN);
  const check = createSignatureCheck(DOMAIN);

  it('signs every message type so that its own check recovers the address', async () => {
    for (const primaryType of Object.keys(TYPES) as PrimaryType[]) {
      const signature = await signer.sign(primaryType, sample(primaryType));
      await expect(check.recover(primaryType, sample(primaryType), signature)).resolves.toBe(signer.address);
    }
  });

  it('signs what any EIP-712 library reads the same way', async () => {
    const message = sample('DelegateVoucher');
    const signature = await signer.sign('DelegateVoucher', message);
    const isValid = await verifyTypedData({
      address: privateKeyToAccount(KEY).address,
      domain: {
        name: 'Freehold ComputeEscrow',
        version: '1',
        chainId: DOMAIN.chainId,
        verifyingContract: DOMAIN.escrow as Hex,
      },
      types: { DelegateVoucher: TYPES.DelegateVoucher },
      primaryType: 'DelegateVoucher',
      message: message as never, // viem wants the type of each field; the samples are of every primary type
      signature: signature as Hex,
    });
    expect(isValid).toBe(true);
  });

  it('hashes every message type as viem does, whatever its members are', () => {
    const bytes = (length: number): fc.Arbitrary<Hex> =>
      fc
        .uint8Array({ minLength: length, maxLength: length })
        .map((raw): Hex => `0x${Buffer.from(raw).toString('hex')}`);
    const members: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
      address: bytes(20),
      bytes32: bytes(32),
      bytes16: bytes(16),
      bytes8: bytes(8),
      uint16: fc.bigInt({ min: 0n, max: 0xffffn }),
      uint32: fc.nat(0xffff_ffff),
      uint64: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    };
    for (const primaryType of Object.keys(TYPES) as PrimaryType[]) {
      const fields: readonly { name: string; type: string }[] = TYPES[primaryType];
      const message = fc.record(
        Object.fromEntries(fields.map(({ name, type }) => [name, members[type] ?? fc.constant(0n)])),
      );
      fc.assert(
        fc.property(message, (values) => {
          const of = DOMAIN_BY_TYPE[primaryType];
          const domain = { ...DOMAINS[of], chainId: DOMAIN.chainId, verifyingContract: DOMAIN[of] as Hex };
          const typed = { domain, types: { [primaryType]: fields }, primaryType, message: values };
          expect(typedDigest(DOMAIN, primaryType, values)).toBe(
            hashTypedData(typed as Parameters<typeof hashTypedData>[0]),
          );
        }),
        { numRuns: 10 },
      );
    }
  });

  it.each([
    ['total', 2n ** 64n, 'a uint64'],
    ['total', -1n, 'a uint64'],
    ['order', 1.5, 'a uint16'],
    ['book', '0x12', '32 bytes'],
    ['payee', `0x${'zz'.repeat(20)}`, '20 bytes'],
    ['receipt', undefined, '32 bytes'],
  ])('refuses a voucher whose %s is %s', (name, value, expected) => {
    const broken = { ...sample('DelegateVoucher'), [name]: value };
    expect(() => typedDigest(DOMAIN, 'DelegateVoucher', broken)).toThrow(
      `DelegateVoucher.${name}: expected ${expected}`,
    );
  });

  it('finds another address for another chain, another contract, or a message changed by one unit', async () => {
    const message = sample('DelegateVoucher');
    const signature = await signer.sign('DelegateVoucher', message);
    const others = [
      createSignatureCheck({ ...DOMAIN, chainId: 1 }).recover('DelegateVoucher', message, signature),
      createSignatureCheck({ ...DOMAIN, escrow: `0x${'e6'.repeat(20)}` }).recover(
        'DelegateVoucher',
        message,
        signature,
      ),
      check.recover('DelegateVoucher', { ...message, total: 8n }, signature),
    ];
    for (const other of await Promise.all(others)) expect(other).not.toBe(signer.address);
  });

  it('answers null for what the contracts would refuse: wrong length, wrong v, the higher s, no point of the curve', async () => {
    const message = sample('Offer');
    const signature = await signer.sign('Offer', message);
    const r = signature.slice(2, 66);
    const s = BigInt(`0x${signature.slice(66, 130)}`);
    const v = Number.parseInt(signature.slice(130), 16);
    const high = `0x${r}${(ORDER - s).toString(16).padStart(64, '0')}${(v ^ 7).toString(16)}`;
    const malformed = [
      '',
      '0x',
      signature.slice(0, -2),
      `${signature.slice(0, -2)}00`,
      high,
      `0x${'ff'.repeat(64)}1b`,
      `0x${'00'.repeat(64)}1b`,
    ];
    for (const wrong of malformed) await expect(check.recover('Offer', message, wrong)).resolves.toBeNull();
  });

  it('says which type or which contract address it does not know', async () => {
    await expect(signer.sign('Receit', {})).rejects.toThrow(/unknown message type Receit/);
    const lean = createSigner(KEY, { chainId: 1, escrow: DOMAIN.escrow });
    await expect(lean.sign('Award', sample('Award'))).rejects.toThrow(
      /panel contract, whose address is not configured/,
    );
  });
});

describe('the curve', () => {
  it('signs byte for byte what viem signs, and finds the signers that viem finds', async () => {
    for (let i = 0; i < 40; i += 1) {
      const privateKey: Hex = `0x${randomBytes(32).toString('hex')}`;
      const hash: Hex = `0x${randomBytes(32).toString('hex')}`;
      const signature = await signDigest(privateKey, hash);
      expect(signature).toBe(await sign({ hash, privateKey, to: 'hex' }));
      const other: Hex = `0x${randomBytes(32).toString('hex')}`;
      for (const digest of [hash, other]) {
        const found = (await recoverAddress({ hash: digest, signature })).toLowerCase();
        await expect(recoverDigest(digest, signature)).resolves.toBe(found);
      }
    }
  });
});

describe('signing pool', () => {
  it('gives the same answers on its workers as in place, also after it was closed', async () => {
    const pool = new SigningPool(2);
    try {
      await pool.warm();
      const away = createSigner(KEY, DOMAIN, pool);
      const check = createSignatureCheck(DOMAIN, pool);
      const message = sample('LeaseCheckpoint');
      const expected = await createSigner(KEY, DOMAIN).sign('LeaseCheckpoint', message);
      for (let round = 0; round < 5; round += 1) {
        const signatures = await Promise.all(Array.from({ length: 4 }, () => away.sign('LeaseCheckpoint', message)));
        expect(new Set(signatures)).toEqual(new Set([expected]));
        await expect(check.recover('LeaseCheckpoint', message, expected)).resolves.toBe(away.address);
        await expect(check.recover('LeaseCheckpoint', message, `0x${'11'.repeat(64)}1b`)).resolves.not.toBe(
          away.address,
        );
        await expect(check.recover('LeaseCheckpoint', message, `0x${'ff'.repeat(64)}1b`)).resolves.toBeNull();
      }
      const inFlight = away.sign('LeaseCheckpoint', message);
      await pool.close();
      await expect(inFlight).resolves.toBe(expected);
      await expect(away.sign('LeaseCheckpoint', message)).resolves.toBe(expected);
    } finally {
      await pool.close();
    }
  });
});

describe('addressOfPublicKey', () => {
  it('gives the address of the key, from the compressed and the whole form', () => {
    for (let i = 0; i < 20; i += 1) {
      const ecdh = createECDH('secp256k1');
      ecdh.setPrivateKey(randomBytes(32));
      const address = privateKeyToAccount(`0x${ecdh.getPrivateKey('hex').padStart(64, '0')}`).address.toLowerCase();
      expect(addressOfPublicKey(ecdh.getPublicKey(null, 'compressed'))).toBe(address);
      expect(addressOfPublicKey(ecdh.getPublicKey())).toBe(address);
    }
  });

  it('refuses what is no point of the curve', () => {
    expect(() => addressOfPublicKey(Buffer.concat([Buffer.from([2]), Buffer.alloc(32, 0xff)]))).toThrow(/no point/);
    expect(() => addressOfPublicKey(Buffer.concat([Buffer.from([2]), Buffer.alloc(31), Buffer.from([5])]))).toThrow(
      /no point/,
    );
    expect(() => addressOfPublicKey(Buffer.alloc(20))).toThrow(/33 or 65 bytes, got 20/);
  });
});
