import { createHash } from 'node:crypto';
import { SignatureCheck, Signer, type TypedMessage } from '@freehold/market';
import { canonicalJson } from '@freehold/protocol';

/**
 * Signatures that cost a hash: who signed stands in them, and a seal over the message that only {@link SimSigner} makes. The real
 * curve is tested where it is used; a run of thousands of seeds needs that nobody signs for another, not how.
 */
function sealOf(address: string, primaryType: string, message: TypedMessage): string {
  return createHash('sha256')
    .update(`${address} ${primaryType} ${canonicalJson(message)}`)
    .digest('hex');
}

export class SimSigner extends Signer {
  readonly address: string;

  constructor(address: string) {
    super();
    this.address = address;
  }

  async sign(primaryType: string, message: TypedMessage): Promise<string> {
    return `0x${this.address.slice(2)}${sealOf(this.address, primaryType, message)}`;
  }
}

export class SimSignatures extends SignatureCheck {
  async recover(primaryType: string, message: TypedMessage, signature: string): Promise<string | null> {
    const address = `0x${signature.slice(2, 42)}`;
    return signature.slice(42) === sealOf(address, primaryType, message) ? address : null;
  }
}
