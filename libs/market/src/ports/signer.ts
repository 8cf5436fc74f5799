/** A message of `libs/protocol/typed-data`, by its EIP-712 primary type. Values: bigint for uints, 0x… for bytes and addresses. */
export type TypedMessage = Readonly<Record<string, unknown>>;

/** Signs typed data with one secp256k1 key; the EIP-712 domain (chain id, escrow address) is fixed when it is made. */
export abstract class Signer {
  /** Lower-case 0x… address of the key. */
  abstract readonly address: string;
  abstract sign(primaryType: string, message: TypedMessage): Promise<string>;
}

/** Recovers who signed typed data under the same domain; null when the signature is malformed. */
export abstract class SignatureCheck {
  abstract recover(primaryType: string, message: TypedMessage, signature: string): Promise<string | null>;
}
