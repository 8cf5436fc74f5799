import './with-resolvers.ts';
import { ECDH } from 'node:crypto';
import { privateKeyFromRaw } from '@libp2p/crypto/keys';
import type { PeerId, PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey, peerIdFromString } from '@libp2p/peer-id';
import { keccak_256 } from '@noble/hashes/sha3.js';

/** The Ethereum address of a peer, from its id alone: keccak of the uncompressed secp256k1 key, last 20 bytes. Null for other kinds of key. */
export function addressOfPeer(peer: PeerId | string): string | null {
  const id = typeof peer === 'string' ? peerIdFromString(peer) : peer;
  if (id.type !== 'secp256k1') return null;
  const uncompressed = ECDH.convertKey(id.publicKey.raw, 'secp256k1', undefined, undefined, 'uncompressed');
  if (typeof uncompressed === 'string') throw new TypeError('expected the key as bytes');
  return `0x${Buffer.from(keccak_256(uncompressed.subarray(1)).subarray(12)).toString('hex')}`;
}

/** One secp256k1 key is the peer, the signer and the payee. */
export interface Identity {
  readonly peerId: string;
  readonly address: string;
}

export function identityOf(privateKeyHex: string): Identity {
  const peer = peerIdFromPrivateKey(keyFromHex(privateKeyHex));
  const address = addressOfPeer(peer);
  if (address === null) throw new TypeError('expected a secp256k1 key');
  return { peerId: peer.toString(), address };
}

export function keyFromHex(privateKeyHex: string): PrivateKey {
  if (!/^(0x)?[0-9a-f]{64}$/i.test(privateKeyHex))
    throw new TypeError('A private key is 32 bytes in hexadecimal; another length or alphabet came.');
  return privateKeyFromRaw(Buffer.from(privateKeyHex.replace(/^0x/, ''), 'hex'));
}
