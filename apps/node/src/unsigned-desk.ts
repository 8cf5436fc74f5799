import {
  dueFor,
  UNSIGNED_LEASES_MAX,
  unitsFromJson,
  type Amount,
  type UnsignedWork,
  type Usage,
} from '@freehold/domain';
import type { LeaseFrame } from '@freehold/wiring/node';
import type { LeaseRun } from './lease-run.ts';
import type { Refusal } from './seats.ts';
import { readUnsigned, writeUnsigned } from './unsigned-file.ts';

/**
 * What this node has done for each coordinator without a signed word for it: the leases in hand, and those that left its hand
 * (taken back, rejected, accepted without a good voucher). Above the owner's limit the node works no more for that coordinator
 * until it signs, or a week passes.
 */
export class UnsignedDesk {
  readonly #dataDir: string;
  readonly #max: Amount;
  readonly #work: UnsignedWork;
  readonly #inHand: () => readonly LeaseRun[];
  readonly #log: (event: string, detail: Record<string, unknown>) => void;
  /** Coordinators whose limit was reached when it was last asked for. */
  readonly #over = new Set<string>();
  #writing: Promise<void> = Promise.resolve();

  private constructor(
    work: UnsignedWork,
    parts: {
      readonly dataDir: string;
      readonly max: Amount;
      readonly inHand: () => readonly LeaseRun[];
      readonly log: (event: string, detail: Record<string, unknown>) => void;
    },
  ) {
    this.#work = work;
    this.#dataDir = parts.dataDir;
    this.#max = parts.max;
    this.#inHand = parts.inHand;
    this.#log = parts.log;
  }

  static async open(
    parts: ConstructorParameters<typeof UnsignedDesk>[1],
    nowMs: number = Date.now(),
  ): Promise<UnsignedDesk> {
    const work = await readUnsigned(parts.dataDir);
    work.forget(nowMs);
    return new UnsignedDesk(work, parts);
  }

  /** A lease left this node's hand, with so many rows that the coordinator has under our signature. */
  left(run: LeaseRun, rows: number): void {
    const usage = rows === run.done ? run.usage : run.usageOf(rows);
    if (usage === null || rows === 0) return;
    this.#add(run.head.task, run.head.coordinator, worthOf(usage, run.head.rates));
    this.#write();
  }

  /** A chat was answered. Its acceptance comes within seconds, so it is not written down: a restart forgives it. */
  answered(task: string, coordinator: string, usage: Usage, rates: LeaseFrame['rates']): void {
    this.#add(task, coordinator, worthOf(usage, rates));
  }

  /** Accepted, and no good voucher came with it. */
  unpaid(task: string, coordinator: string, charge: Amount): void {
    this.#add(task, coordinator, charge);
    this.#write();
  }

  signed(task: string): void {
    if (this.#work.signed(task)) this.#write();
  }

  owed(coordinator: string): Amount {
    const runs = this.#inHand().filter(({ head }) => head.coordinator === coordinator);
    const inHand = runs.reduce((sum, { usage, head }) => sum + worthOf(usage, head.rates), 0n);
    return inHand + this.#work.owed(coordinator, new Set(runs.map(({ head }) => head.task)));
  }

  /** Why nothing new is taken from this coordinator; null when it may come. */
  refusal(coordinator: string): Refusal | null {
    const owed = this.owed(coordinator);
    const isOver = owed >= this.#max || this.#work.count(coordinator) >= UNSIGNED_LEASES_MAX;
    if (!isOver) {
      this.#over.delete(coordinator);
      return null;
    }
    const message = `${owed} of work is delivered and nothing signed came for it; this node serves a coordinator up to ${this.#max}.`;
    if (!this.#over.has(coordinator)) this.#log('unsigned-limit', { coordinator, message });
    this.#over.add(coordinator);
    return { code: 'UNSIGNED', message };
  }

  /** Resolves when what was told until now is on the disk. */
  async kept(): Promise<void> {
    await this.#writing;
  }

  #add(task: string, coordinator: string, amount: Amount): void {
    const nowMs = Date.now();
    this.#work.forget(nowMs);
    this.#work.add({ task, coordinator, amount, atMs: nowMs });
  }

  /** One after the other. A disk without room costs the memory of it at the next start, never the work at hand. */
  #write(): void {
    this.#writing = this.#writing
      .then(() => writeUnsigned(this.#dataDir, this.#work))
      .catch((error: unknown) => {
        this.#log('unsigned-not-written', { message: error instanceof Error ? error.message : String(error) });
      });
  }
}

function worthOf(usage: Usage, rates: LeaseFrame['rates']): Amount {
  return dueFor(usage, unitsFromJson(rates as Record<string, string>));
}
