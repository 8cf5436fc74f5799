/** Gives a slot back. Calling it twice is harmless. */
export type Release = () => void;

export type ChatAdmission =
  | { readonly admitted: true; readonly release: Release }
  | { readonly admitted: false; readonly code: string; readonly message: string };

interface Waiter {
  readonly take: () => void;
}

/**
 * The slots of one model on this node. The node alone admits: chat takes any free slot; when there is none it waits a moment
 * for the next row boundary, because rows hold a slot for one row only and chats that wait go first. Chat's share is capped,
 * so that batch work is slowed by it and never starved to death unseen: a row that waits too long is told so.
 */
export class Slots {
  readonly total: number;
  readonly chatMax: number;
  readonly #onChange: () => void;
  readonly #chatQueue: Waiter[] = [];
  readonly #rowQueue: Waiter[] = [];
  #rows = 0;
  #chats = 0;

  constructor(total: number, chatSharePercent: number, onChange: () => void) {
    this.total = total;
    // Any share above none means at least one slot: half of a single slot would be no chat at all.
    this.chatMax = chatSharePercent === 0 ? 0 : Math.max(1, Math.floor((total * chatSharePercent) / 100));
    this.#onChange = onChange;
  }

  /** Slots that nobody holds or waits for. */
  get free(): number {
    return Math.max(0, this.total - this.#chats - this.#rows - this.#rowQueue.length);
  }

  get chats(): number {
    return this.#chats;
  }

  /** A slot for one row; null when none came within `patienceMs`. */
  async takeRow(patienceMs: number, signal: AbortSignal): Promise<Release | null> {
    if (!(await this.#take(this.#rowQueue, () => this.#hasFree() && this.#chatQueue.length === 0, patienceMs, signal)))
      return null;
    this.#granted -= 1;
    this.#rows += 1;
    return this.#releaser(() => (this.#rows -= 1));
  }

  /** A slot for one chat, or why there is none. */
  async takeChat(waitMs: number, signal: AbortSignal): Promise<ChatAdmission> {
    if (this.#chats + this.#chatQueue.length >= this.chatMax) {
      return {
        admitted: false,
        code: 'CHAT_SHARE',
        message: `All ${this.chatMax} slots that this node gives to chat are taken (of ${this.total}).`,
      };
    }
    if (!(await this.#take(this.#chatQueue, () => this.#hasFree(), waitMs, signal))) {
      return { admitted: false, code: 'NODE_BUSY', message: `No slot of ${this.total} came free within ${waitMs} ms.` };
    }
    this.#granted -= 1;
    this.#chats += 1;
    return { admitted: true, release: this.#releaser(() => (this.#chats -= 1)) };
  }

  #hasFree(): boolean {
    return this.#rows + this.#chats + this.#granted < this.total;
  }
  /** Slots promised to a caller that has not run on yet: promises resolve a turn later, and another may ask in between. */
  #granted = 0;

  /** True: one more is in `#granted`, for the caller to turn into a row or a chat. */
  async #take(queue: Waiter[], isFree: () => boolean, waitMs: number, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false;
    if (queue.length === 0 && isFree()) {
      this.#granted += 1;
      this.#onChange();
      return true;
    }
    if (waitMs <= 0) return false;
    return await new Promise<boolean>((resolve) => {
      const end = (taken: boolean): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        const at = queue.indexOf(waiter);
        if (at >= 0) queue.splice(at, 1);
        resolve(taken);
      };
      const onAbort = (): void => end(false);
      const waiter: Waiter = {
        take: () => {
          this.#granted += 1;
          end(true);
        },
      };
      const timer = setTimeout(() => end(false), waitMs);
      signal.addEventListener('abort', onAbort, { once: true });
      queue.push(waiter);
    });
  }

  #releaser(giveBack: () => void): Release {
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      giveBack();
      this.#serveNext();
      this.#onChange();
    };
  }

  #serveNext(): void {
    while (this.#hasFree()) {
      const next = this.#chatQueue[0] ?? this.#rowQueue[0];
      if (next === undefined) return;
      next.take();
    }
  }
}
