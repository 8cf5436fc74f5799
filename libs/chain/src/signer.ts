import { SignatureCheck, Signer, type TypedMessage } from '@freehold/market';
import type { Hex } from 'viem';
import { privateKeyToAccount, publicKeyToAddress } from 'viem/accounts';
import { SigningPool } from './signing-pool.ts';
import { typedDigest, type SigningDomain } from './typed-digest.ts';

/** Half of the group's order: the contracts refuse the other of the two signatures that a message has, and so do we. */
const S_MAX = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;
const SIGNATURE = /^0x[0-9a-f]{130}$/i;

/** Signs with one key under one domain. The key is kept in memory only. */
export function createSigner(privateKey: Hex, domain: SigningDomain, pool: SigningPool = new SigningPool(0)): Signer {
  return new Eip712Signer(privateKey, domain, pool);
}

export function createSignatureCheck(domain: SigningDomain, pool: SigningPool = new SigningPool(0)): SignatureCheck {
  return new Eip712SignatureCheck(domain, pool);
}

/** The address of a private key. Lower case. */
export function addressOfKey(privateKey: Hex): string {
  return privateKeyToAccount(privateKey).address.toLowerCase();
}

/** The Ethereum address of a secp256k1 public key (33 or 65 bytes): what a libp2p PeerId carries. Lower case. */
export function addressOfPublicKey(publicKey: Uint8Array): string {
  const point = publicKey.length === 33 ? decompress(publicKey) : publicKey;
  if (point.length !== 65 || point[0] !== 4) {
    throw new TypeError(`expected a secp256k1 public key of 33 or 65 bytes, got ${publicKey.length}`);
  }
  return publicKeyToAddress(`0x${Buffer.from(point).toString('hex')}`).toLowerCase();
}

class Eip712Signer extends Signer {
  override readonly address: string;
  readonly #key: Hex;
  readonly #domain: SigningDomain;
  readonly #pool: SigningPool;

  constructor(privateKey: Hex, domain: SigningDomain, pool: SigningPool) {
    super();
    this.address = addressOfKey(privateKey);
    this.#key = privateKey;
    this.#domain = domain;
    this.#pool = pool;
  }

  override async sign(primaryType: string, message: TypedMessage): Promise<string> {
    return this.#pool.sign(this.#key, typedDigest(this.#domain, primaryType, message));
  }
}

class Eip712SignatureCheck extends SignatureCheck {
  readonly #domain: SigningDomain;
  readonly #pool: SigningPool;

  constructor(domain: SigningDomain, pool: SigningPool) {
    super();
    this.#domain = domain;
    this.#pool = pool;
  }

  override async recover(primaryType: string, message: TypedMessage, signature: string): Promise<string | null> {
    if (!isCanonical(signature)) return null;
    return this.#pool.recover(typedDigest(this.#domain, primaryType, message), signature);
  }
}

/** 65 bytes, v of 27 or 28, the lower s: exactly what the contracts take. */
function isCanonical(signature: string): signature is Hex {
  if (!SIGNATURE.test(signature)) return false;
  const v = Number.parseInt(signature.slice(130), 16);
  return (v === 27 || v === 28) && BigInt(`0x${signature.slice(66, 130)}`) <= S_MAX;
}

/** y² = x³ + 7 over the field of secp256k1; its prime is 3 mod 4, so a square root is one power. */
function decompress(compressed: Uint8Array): Uint8Array {
  const x = BigInt(`0x${Buffer.from(compressed.subarray(1)).toString('hex')}`);
  const square = (x ** 3n + 7n) % FIELD_PRIME;
  const root = power(square, (FIELD_PRIME + 1n) / 4n);
  if (x >= FIELD_PRIME || (root * root) % FIELD_PRIME !== square || (compressed[0] !== 2 && compressed[0] !== 3)) {
    throw new TypeError('expected a compressed secp256k1 public key; these 33 bytes are no point of the curve');
  }
  const y = Number(root & 1n) === (compressed[0] & 1) ? root : FIELD_PRIME - root;
  const hex = (value: bigint): string => value.toString(16).padStart(64, '0');
  return Buffer.from(`04${hex(x)}${hex(y)}`, 'hex');
}

const FIELD_PRIME = 2n ** 256n - 2n ** 32n - 977n;

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  let factor = base;
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if ((rest & 1n) === 1n) result = (result * factor) % FIELD_PRIME;
    factor = (factor * factor) % FIELD_PRIME;
  }
  return result;
}
