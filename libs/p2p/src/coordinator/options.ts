import type { ObjectDesk, SignatureCheck } from '@freehold/market';
import type { CoordinatorMessage } from '@freehold/protocol';
import type { LinkLimits } from './limits.ts';

export type ProcessRef = Extract<CoordinatorMessage, { type: 'welcome' }>['processes'][number];

/** What the link reports for logs and metrics. Never a payload. */
export interface LinkNote {
  readonly event: 'joined' | 'left' | 'turned-away' | 'cut-off' | 'failed';
  readonly peer: string;
  readonly code: string;
  readonly message: string;
}

export interface ProviderLinkOptions {
  /** The process's own key, 32 bytes in hexadecimal: its PeerId must outlive restarts, because nodes dial it by name. */
  readonly privateKeyHex: string;
  /** Multiaddrs, `/ip4/0.0.0.0/tcp/0` for any free port. */
  readonly listen: readonly string[];
  /** What nodes are told to dial, where that differs from what is listened on. */
  readonly announce?: readonly string[];
  readonly role: 'api' | 'scheduler';
  readonly coordinator: string;
  /** Address whose signature stands on countersignatures and vouchers. */
  readonly delegate: string;
  readonly chainId: number;
  readonly escrow: string | null;
  /** The coordinator's other processes, as the nodes should dial them; asked anew for each welcome. */
  readonly processes?: () => readonly ProcessRef[];
  /** Objects of fine-tunes; without it nodes get and bring none. */
  readonly objects?: ObjectDesk;
  /** Recovers who signed an offer. */
  readonly signatures: SignatureCheck;
  readonly limits?: Partial<LinkLimits>;
  readonly note?: (note: LinkNote) => void;
  /** Unix seconds, for the expiry of offers. */
  readonly nowS?: () => number;
}
