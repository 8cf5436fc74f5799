import type { SignatureCheck, Signer } from '@freehold/market';
import type { CoordinatorAbout } from '@freehold/protocol';

/** One coordinator: whoever signs with this delegate key, on this chain, under this contract, however many processes it has. */
export interface Coordinator {
  /** The three of them in one word: what leases, receipts and signatures are filed under. */
  readonly key: string;
  readonly name: string;
  readonly chainId: number;
  readonly escrow: string | null;
  readonly delegate: string;
  readonly signer: Signer;
  readonly signatures: SignatureCheck;
}

export type Signing = (domain: { readonly chainId: number; readonly escrow: string | null }) => {
  readonly signer: Signer;
  readonly signatures: SignatureCheck;
};

/** Which coordinator stands behind which process, as each said before its first hello. */
export class Coordinators {
  readonly #signing: Signing;
  readonly #pinned: { readonly chainId: number | null; readonly escrow: string | null };
  readonly #byKey = new Map<string, Coordinator>();
  readonly #byPeer = new Map<string, Coordinator>();

  /** @param pinned The chain and contract the owner expects, if any: a coordinator of another is not worked for. */
  constructor(signing: Signing, pinned: { readonly chainId: number | null; readonly escrow: string | null }) {
    this.#signing = signing;
    this.#pinned = pinned;
  }

  meet(peer: string, about: CoordinatorAbout): Coordinator {
    this.#expectPinned(about);
    const coordinator = this.at(about.chainId, about.escrow, about.delegate, about.coordinator);
    this.#byPeer.set(peer, coordinator);
    return coordinator;
  }

  of(peer: string): Coordinator | null {
    return this.#byPeer.get(peer) ?? null;
  }

  peersOf(key: string): string[] {
    return [...this.#byPeer].filter(([, coordinator]) => coordinator.key === key).map(([peer]) => peer);
  }

  /** Also for leases found on the disk, before their coordinator was met. */
  at(chainId: number, escrow: string | null, delegate: string, name = ''): Coordinator {
    const key = `${chainId}/${escrow ?? 'none'}/${delegate}`;
    let coordinator = this.#byKey.get(key);
    if (coordinator === undefined) {
      coordinator = { key, name, chainId, escrow, delegate, ...this.#signing({ chainId, escrow }) };
      this.#byKey.set(key, coordinator);
    }
    return coordinator;
  }

  #expectPinned(about: CoordinatorAbout): void {
    const { chainId, escrow } = this.#pinned;
    if (chainId !== null && about.chainId !== chainId)
      throw new Error(
        `The coordinator works on chain ${about.chainId}; this node was told ${chainId}. It is not served.`,
      );
    if (escrow !== null && about.escrow !== escrow)
      throw new Error(
        `The coordinator's escrow is ${about.escrow ?? 'none'}; this node was told ${escrow}. It is not served.`,
      );
  }
}
