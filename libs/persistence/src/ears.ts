import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { QueryRunner } from 'typeorm';
import { isConnectionLoss } from './database-errors.ts';

/** A server that was killed hard is back in 1–3 s. */
const AGAIN_MS = 500;

/** A connection that listens on one channel, and the next one when it is lost. */
export class Ears {
  readonly #connect: () => Promise<QueryRunner>;
  readonly #channel: string;
  readonly #hear: (payload: string) => void;
  readonly #closing = new AbortController();
  #runner: QueryRunner | null = null;
  #client: pg.PoolClient | null = null;
  #reopening: Promise<void> = Promise.resolve();

  constructor(connect: () => Promise<QueryRunner>, channel: string, hear: (payload: string) => void) {
    if (!/^[a-z_]+$/u.test(channel)) throw new Error(`channel '${channel}': expected small letters and underscores`);
    this.#connect = connect;
    this.#channel = channel;
    this.#hear = hear;
  }

  async open(): Promise<void> {
    const runner = await this.#connect();
    const client = (await runner.connect()) as pg.PoolClient;
    try {
      await client.query(`LISTEN ${this.#channel}`);
    } catch (error) {
      await runner.release();
      throw error;
    }
    [this.#runner, this.#client] = [runner, client];
    client.on('notification', this.#heard);
    client.once('end', this.#lost);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#reopening;
    const [runner, client] = [this.#runner, this.#client];
    [this.#runner, this.#client] = [null, null];
    if (runner === null || client === null) return;
    client.off('notification', this.#heard);
    client.off('end', this.#lost);
    try {
      await client.query(`UNLISTEN ${this.#channel}`);
    } catch (error) {
      if (!isConnectionLoss(error)) throw error;
    } finally {
      await runner.release();
    }
  }

  readonly #heard = ({ payload }: pg.Notification): void => this.#hear(payload ?? '');

  readonly #lost = (): void => {
    const runner = this.#runner;
    [this.#runner, this.#client] = [null, null];
    this.#reopening = this.#reopen(runner);
  };

  async #reopen(lost: QueryRunner | null): Promise<void> {
    await lost?.release();
    while (!this.#closing.signal.aborted) {
      try {
        return await this.open();
      } catch {
        // The server is away: whoever asks it something says so.
        await sleep(AGAIN_MS, undefined, { signal: this.#closing.signal }).catch(() => undefined);
      }
    }
  }
}
