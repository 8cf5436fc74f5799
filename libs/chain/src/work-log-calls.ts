import { workLogAbi } from '@freehold/contracts';
import { WorkLog, type EscrowCall } from '@freehold/market';
import { encodeFunctionData, getAddress, toHex, type Hex } from 'viem';

/** Calls to the WorkLog at one address. It checks nothing and stores nothing: an event of it is the date. */
export class WorkLogCalls extends WorkLog {
  readonly #address: Hex;

  constructor(address: string) {
    super();
    this.#address = getAddress(address);
  }

  override anchor(book: string, epoch: bigint, root: Uint8Array, commits: number): EscrowCall {
    const args = [book as Hex, Number(epoch), toHex(root), BigInt(commits)] as const;
    return { to: this.#address, data: encodeFunctionData({ abi: workLogAbi, functionName: 'anchor', args }) };
  }
}
