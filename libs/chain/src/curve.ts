import { createRequire } from 'node:module';
import { keccak256, recoverAddress, type Hex } from 'viem';
import { sign } from 'viem/accounts';

/** What we use of libsecp256k1, the library of Bitcoin Core. It throws for numbers outside of the group. */
interface NativeCurve {
  ecdsaSign(digest: Uint8Array, key: Uint8Array): { readonly signature: Uint8Array; readonly recid: number };
  ecdsaRecover(signature: Uint8Array, recid: number, digest: Uint8Array, compressed: boolean): Uint8Array;
}

/** The file of the package that binds the native library: its index would fall back to a JavaScript that we do not want. */
export const NATIVE_CURVE = 'secp256k1/bindings.js';

/** v of a signature whose point has an even y; the other is one more. */
const V_OF_EVEN = 27;
const native = loadNative();
/** Whether a signature takes 0.1 ms here, or ten times that. */
export const isNative = native !== null;

/**
 * One signature on secp256k1, in place. Of RFC 6979 with the lower s: byte for byte what viem makes of the same digest and key.
 *
 * Where the package has no build for the machine, viem's own JavaScript does it: ten times slower, the same bytes.
 */
export async function signDigest(privateKey: Hex, digest: Hex): Promise<Hex> {
  if (native === null) return sign({ hash: digest, privateKey, to: 'hex' });
  const { signature, recid } = native.ecdsaSign(bytesOf(digest), bytesOf(privateKey));
  return `0x${Buffer.from(signature).toString('hex')}${(V_OF_EVEN + recid).toString(16)}`;
}

/** @returns the address in lower case, null when no key made this signature. */
export async function recoverDigest(digest: Hex, signature: Hex): Promise<Hex | null> {
  const bytes = bytesOf(signature);
  const recid = (bytes[64] ?? 0) - V_OF_EVEN;
  // 2 and 3 stand for an x beyond the group's order: the contracts refuse them, and so does every wallet.
  if (bytes.length !== 65 || (recid !== 0 && recid !== 1)) return null;
  try {
    if (native === null) return (await recoverAddress({ hash: digest, signature })).toLowerCase() as Hex;
    const point = native.ecdsaRecover(bytes.subarray(0, 64), recid, bytesOf(digest), false);
    return `0x${keccak256(point.subarray(1)).slice(-40)}`;
  } catch {
    // Both libraries throw for every point that is not on the curve: an answer, not a failure.
    return null;
  }
}

function loadNative(): NativeCurve | null {
  try {
    return createRequire(import.meta.url)(NATIVE_CURVE) as NativeCurve;
  } catch {
    // No build for this machine (linux-arm64, for one): viem's JavaScript stands in.
    return null;
  }
}

function bytesOf(hex: Hex): Uint8Array {
  return Buffer.from(hex.slice(2), 'hex');
}
