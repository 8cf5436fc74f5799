import type { Response } from 'express';

/** Proxies and clients give a silent connection up; a comment costs nothing. */
const PING_MS = 15_000;

/** Server-sent events. Headers go out with the first event, or when the wait becomes long, so that early refusals keep their status. */
export class EventStream {
  readonly #response: Response;
  #ping: NodeJS.Timeout | null = null;
  #gathering = false;

  constructor(response: Response) {
    this.#response = response;
  }

  get isOpen(): boolean {
    return this.#response.headersSent;
  }

  open(): void {
    if (this.#response.headersSent || this.#response.destroyed) return;
    this.#response.status(200);
    this.#response.setHeader('content-type', 'text/event-stream; charset=utf-8');
    this.#response.setHeader('cache-control', 'no-cache, no-transform');
    this.#response.setHeader('x-accel-buffering', 'no');
    this.#response.flushHeaders();
    this.#ping = setInterval(() => this.#response.write(': waiting\n\n'), PING_MS);
    this.#response.once('close', () => this.close());
  }

  async send(body: unknown): Promise<void> {
    await this.#write(`data: ${JSON.stringify(body)}\n\n`);
  }

  async end(): Promise<void> {
    await this.#write('data: [DONE]\n\n');
    this.close();
    this.#response.end();
  }

  close(): void {
    if (this.#ping !== null) clearInterval(this.#ping);
    this.#ping = null;
  }

  /** What is written in one turn leaves in one piece: the headers, the role and the first words, the last events and the end. */
  #gather(): void {
    if (this.#gathering) return;
    this.#gathering = true;
    this.#response.cork();
    process.nextTick(() => {
      this.#gathering = false;
      this.#response.uncork();
    });
  }

  async #write(text: string): Promise<void> {
    this.#gather();
    this.open();
    if (this.#response.destroyed || this.#response.write(text)) return;
    await new Promise<void>((resolve) => {
      const go = (): void => {
        this.#response.off('drain', go);
        this.#response.off('close', go);
        resolve();
      };
      this.#response.once('drain', go);
      this.#response.once('close', go);
    });
  }
}
