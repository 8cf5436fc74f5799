import type { OnApplicationShutdown } from '@nestjs/common';
import type { ProviderLink } from '@freehold/market';
import { ProcessNumberTaken, type PgProcessRegister, type ShownProcess } from '@freehold/persistence';

/** How soon the others know of a process that came or went. */
const SHOW_EVERY_MS = 1_000;

/** What a node is told of a process. */
export interface ProcessEntry {
  readonly peer: string;
  readonly addresses: string[];
  readonly role: 'api' | 'scheduler';
}

export interface ProcessDirectoryParts {
  readonly register: Pick<PgProcessRegister, 'no' | 'role' | 'show' | 'close'>;
  readonly shards: number;
  readonly report: (what: string, error: unknown) => void;
}

/** What a directory needs of the link to this process's nodes. */
export interface LinkOfProcess extends Pick<ProviderLink, 'peerId' | 'addresses' | 'tell'> {
  nodes(): readonly { readonly id: string }[];
}

/**
 * How the processes of one coordinator find each other, and how nodes find them all: each shows itself every second, and tells
 * its nodes when one came or went, so that a node keeps a stream to every process there is.
 */
export class ProcessDirectory implements OnApplicationShutdown {
  readonly #parts: ProcessDirectoryParts;
  #alive: readonly ShownProcess[] = [];
  #timer: NodeJS.Timeout | null = null;
  #showing: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(parts: ProcessDirectoryParts) {
    this.#parts = parts;
  }

  /**
   * Shows this process to the others from now on.
   *
   * @param onTaken Another process works under this one's number: this one has to end.
   */
  async enter(link: LinkOfProcess, onTaken: (error: ProcessNumberTaken) => void): Promise<void> {
    await this.#show(link);
    const again = (): void => {
      if (this.#closed) return;
      this.#timer = setTimeout(() => {
        this.#showing = this.#show(link)
          .catch((error: unknown) => {
            if (error instanceof ProcessNumberTaken) onTaken(error);
            else this.#parts.report('showing this process to the others', error);
          })
          .finally(again);
      }, SHOW_EVERY_MS);
    };
    again();
  }

  entries(): ProcessEntry[] {
    return this.#alive.map(({ peer, addresses, role }) => ({ peer, addresses: [...addresses], role }));
  }

  /**
   * How many shards of `this` scheduler's setting are its own to hold: an even part, rounded up. None while another scheduler, who was
   * there before, divides the nodes into another number of parts: some node would belong to both.
   */
  get shardsMost(): number {
    const { register, shards } = this.#parts;
    const others = this.#alive.filter(({ role, no }) => role === 'scheduler' && no !== register.no);
    if (others.some((other) => other.no < register.no && other.shards !== shards)) return 0;
    return Math.ceil(shards / (others.length + 1));
  }

  async onApplicationShutdown(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#showing;
    await this.#parts.register.close();
  }

  async #show(link: LinkOfProcess): Promise<void> {
    const before = namesOf(this.#alive);
    this.#alive = await this.#parts.register.show({
      peer: link.peerId(),
      addresses: link.addresses(),
      shards: this.#parts.shards,
    });
    if (before === '' || namesOf(this.#alive) === before) return;
    const processes = this.entries();
    for (const { id } of link.nodes()) link.tell(id, { type: 'processes', processes });
  }
}

function namesOf(processes: readonly ShownProcess[]): string {
  return processes
    .map(({ peer, addresses }) => [peer, ...addresses].join(' '))
    .sort()
    .join('\n');
}
