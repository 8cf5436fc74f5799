import { dueFor, UNSIGNED_LEASES_MAX, unitsFromJson, UnsignedWork, type Amount, type Usage } from '@freehold/domain';
import type { LeaseFrame } from '@freehold/wiring/node';
import type { LeaseRun } from './lease-run.ts';
import type { Refusal } from './seats.ts';
import { readUnsigned, writeUnsigned } from './unsigned-file.ts';

export interface UnsignedDeskParts {
  readonly dataDir: string;
  readonly max: Amount;
  readonly inHand: () => readonly LeaseRun[];
  readonly log: (event: string, detail: Record<string, unknown>) => void;
}

/**
 * What this node has done for each coordinator without a signed word for it: the leases in hand, and those that left its hand
 * (taken back, rejected, accepted without a good voucher). Above the owner's limit the node works no more for that coordinator
 * until it signs, or a week passes.
 */
export class UnsignedDesk {
  readonly #parts: UnsignedDeskParts;
  readonly #work: UnsignedWork;
  /** Chats wait for seconds and come by the thousand: they are not written down, and a restart forgives them. */
  readonly #chats = new UnsignedWork();
  /** Chats that are worth nothing, in a pool without prices: nothing is owed for them, and words about them are words about work done. */
  readonly #free = new Map<string, string>();
  /** Coordinators whose limit was reached when it was last asked for. */
  readonly #over = new Set<string>();
  #writing: Promise<void> = Promise.resolve();

  private constructor(work: UnsignedWork, parts: UnsignedDeskParts) {
    this.#work = work;
    this.#parts = parts;
  }

  static async open(parts: UnsignedDeskParts): Promise<UnsignedDesk> {
    return new UnsignedDesk(await readUnsigned(parts.dataDir), parts);
  }

  /** A lease left this node's hand, with so many rows that the coordinator has under our signature. */
  left(run: LeaseRun, rows: number): void {
    const usage = rows === run.done ? run.usage : run.usageOf(rows);
    if (usage === null || rows === 0) return;
    if (this.#add(this.#work, run.head.task, run.head.coordinator, worthOf(usage, run.head.rates))) this.#write();
  }

  /** A chat's answer is about to leave: its voucher may be here before the answer is known to have left. */
  answered(task: string, coordinator: string, usage: Usage, rates: LeaseFrame['rates']): void {
    const worth = worthOf(usage, rates);
    if (worth > 0n) this.#add(this.#chats, task, coordinator, worth);
    else this.#noteFree(task, coordinator);
  }

  /** The answer did not leave. */
  unanswered(task: string): void {
    this.#chats.signed(task);
    this.#free.delete(task);
  }

  /**
   * A chat was accepted, and no good voucher came with it: it waits with the leases from now on, for what this node knows it
   * is worth. What the coordinator says of it counts for nothing: neither a charge of zero nor a task this node never saw.
   */
  unpaid(task: string, coordinator: string): void {
    if (this.#free.get(task) === coordinator) this.#free.delete(task);
    const chat = this.#chats.find(task);
    if (chat?.coordinator !== coordinator) return;
    this.#chats.signed(task);
    if (this.#add(this.#work, task, coordinator, chat.amount)) this.#write();
  }

  /** Whether this node worked on the task for this coordinator, and waits for a signed word about it. */
  knows(task: string, coordinator: string): boolean {
    const holder = (this.#chats.find(task) ?? this.#work.find(task))?.coordinator ?? this.#free.get(task);
    return holder === coordinator;
  }

  signed(task: string): void {
    this.#chats.signed(task);
    if (this.#work.signed(task)) this.#write();
  }

  owed(coordinator: string): Amount {
    const runs = this.#parts.inHand().filter(({ head }) => head.coordinator === coordinator);
    const inHand = runs.reduce((sum, { usage, head }) => sum + worthOf(usage, head.rates), 0n);
    const left = this.#work.owed(coordinator, new Set(runs.map(({ head }) => head.task)));
    return inHand + left + this.#chats.owed(coordinator);
  }

  /** Why nothing new is taken from this coordinator; null when it may come. */
  refusal(coordinator: string): Refusal | null {
    for (const work of [this.#work, this.#chats]) work.forget(Date.now());
    const owed = this.owed(coordinator);
    const { max, log } = this.#parts;
    const count = this.#work.count(coordinator) + this.#chats.count(coordinator);
    const isOver = owed >= max || count >= UNSIGNED_LEASES_MAX;
    if (!isOver) {
      this.#over.delete(coordinator);
      return null;
    }
    const message = `${owed} of work is delivered and nothing signed came for it; this node serves a coordinator up to ${max}.`;
    if (!this.#over.has(coordinator)) log('unsigned-limit', { coordinator, message });
    this.#over.add(coordinator);
    return { code: 'UNSIGNED', message };
  }

  /** Resolves when what was told until now is on the disk. */
  async kept(): Promise<void> {
    await this.#writing;
  }

  #noteFree(task: string, coordinator: string): void {
    this.#free.set(task, coordinator);
    const oldest = this.#free.keys().next();
    if (this.#free.size > UNSIGNED_LEASES_MAX && oldest.done !== true) this.#free.delete(oldest.value);
  }

  #add(work: UnsignedWork, task: string, coordinator: string, amount: Amount): boolean {
    const nowMs = Date.now();
    work.forget(nowMs);
    return work.add({ task, coordinator, amount, atMs: nowMs });
  }

  /** One after the other. A disk without room costs the memory of it at the next start, never the work at hand. */
  #write(): void {
    this.#writing = this.#writing
      .then(() => writeUnsigned(this.#parts.dataDir, this.#work))
      .catch((error: unknown) => {
        this.#parts.log('unsigned-not-written', { message: error instanceof Error ? error.message : String(error) });
      });
  }
}

function worthOf(usage: Usage, rates: LeaseFrame['rates']): Amount {
  return dueFor(usage, unitsFromJson(rates as Record<string, string>));
}
