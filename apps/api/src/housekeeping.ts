import { Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { AccountStore, fileObject, FileStore, ObjectStore } from '@freehold/market';
import { Reporter } from './openai/inference.ts';

const EVERY_MS = 60_000;
const FILES_PER_TURN = 500;

/** Removes what nobody can ask for any more: expired files, identities of old requests. Any number of processes may do it. */
@Injectable()
export class Housekeeping implements OnApplicationBootstrap, OnApplicationShutdown {
  readonly #accounts: AccountStore;
  readonly #files: FileStore;
  readonly #objects: ObjectStore;
  readonly #reporter: Reporter;
  #timer: NodeJS.Timeout | null = null;
  #turn: Promise<void> = Promise.resolve();

  constructor(accounts: AccountStore, files: FileStore, objects: ObjectStore, reporter: Reporter) {
    this.#accounts = accounts;
    this.#files = files;
    this.#objects = objects;
    this.#reporter = reporter;
  }

  onApplicationBootstrap(): void {
    this.#timer = setInterval(() => {
      this.#turn = this.tidy().catch((error: unknown) => this.#reporter.report('tidying up', { error: String(error) }));
    }, EVERY_MS);
    this.#timer.unref();
  }

  async onApplicationShutdown(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#turn;
  }

  async tidy(): Promise<void> {
    for (const id of await this.#files.expire(FILES_PER_TURN)) await this.#objects.remove(fileObject(id));
    while ((await this.#accounts.forgetRequests()) > 0);
  }
}
