import type { Outbox } from '@freehold/market';

export interface ProcessEntry {
  readonly peer: string;
  readonly addresses: string[];
  readonly role: 'api' | 'scheduler';
}

const ROLES = ['api', 'scheduler'] as const;

/**
 * How the processes of one coordinator find each other, so that the welcome of any tells a node where all are. Kept in the
 * coordinator's small facts; read again on a tick, because a process that moved writes itself down again.
 */
export class ProcessDirectory {
  readonly #facts: Pick<Outbox, 'remember' | 'remembered'>;
  #entries: readonly ProcessEntry[] = [];

  constructor(facts: Pick<Outbox, 'remember' | 'remembered'>) {
    this.#facts = facts;
  }

  async enter(entry: ProcessEntry): Promise<void> {
    await this.#facts.remember(`process.${entry.role}`, JSON.stringify(entry));
    await this.refresh();
  }

  async refresh(): Promise<void> {
    const texts = await Promise.all(ROLES.map((role) => this.#facts.remembered(`process.${role}`)));
    this.#entries = texts.flatMap((text) => (text === null ? [] : [JSON.parse(text) as ProcessEntry]));
  }

  entries(): ProcessEntry[] {
    return [...this.#entries];
  }
}
