import { Controller, Get, Inject, Res } from '@nestjs/common';
import type { Response } from 'express';
import { AccountStore, BooksWatch, ObjectStore, ProviderLink, type BooksSeen } from '@freehold/market';
import { Needs, PUBLIC } from '../accounts/needs.ts';
import { ApiMetrics } from '../http/metrics.ts';
import { API_SETTINGS, type ApiSettings } from '../settings.ts';

const CHECK_MS = 3_000;
const NO_KEY = new Uint8Array(32);

@Controller()
@Needs(PUBLIC)
export class HealthController {
  readonly #accounts: AccountStore;
  readonly #objects: ObjectStore;
  readonly #link: ProviderLink;
  readonly #books: BooksWatch;
  readonly #metrics: ApiMetrics;
  readonly #settings: ApiSettings;

  constructor(
    accounts: AccountStore,
    objects: ObjectStore,
    link: ProviderLink,
    books: BooksWatch,
    metrics: ApiMetrics,
    @Inject(API_SETTINGS) settings: ApiSettings,
  ) {
    this.#accounts = accounts;
    this.#objects = objects;
    this.#link = link;
    this.#books = books;
    this.#metrics = metrics;
    this.#settings = settings;
  }

  /** The process turns its wheel. Says nothing about anything outside it: a restart would not help there. */
  @Get('healthz')
  live(): Record<string, unknown> {
    return { status: 'ok' };
  }

  /** Whether requests should be sent here. */
  @Get('readyz')
  async ready(@Res() response: Response): Promise<void> {
    const checks = await Promise.all([
      check('database', () => this.#accounts.findKey(NO_KEY)),
      check('objects', () => this.#objects.size('files/none')),
      check('disk', async () => {
        if (this.#diskFault() !== null) throw new Error('full');
      }),
      check('link', async () => {
        if (this.#link.addresses().length === 0) throw new Error('not listening');
      }),
    ]);
    const notReady = [...this.#settings.notReady(), ...(this.#diskFault() ?? [])];
    const isReady = notReady.length === 0 && checks.every(({ ok }) => ok);
    // Books that are not right are for the operator to look into, not for a load balancer: requests are served all the same.
    const books = await check('books', async () => {
      if (!areRight(await this.#books.seen())) throw new Error('not right');
    });
    response.status(isReady ? 200 : 503).json({
      status: isReady ? 'ready' : 'not ready',
      checks: [...checks, books],
      reasons: notReady,
      nodes: this.#link.nodes().length,
    });
  }

  /** Whether the money side is right: 503 while payouts are halted, or while the doctor's last look found something. */
  @Get('readyz/books')
  async booksReady(@Res() response: Response): Promise<void> {
    const seen = await this.#books.seen();
    const { payoutsHaltedSince, doctor } = seen;
    response.status(areRight(seen) ? 200 : 503).json({
      status: areRight(seen) ? 'right' : 'not right',
      payouts: payoutsHaltedSince === null ? 'running' : 'halted',
      payouts_halted_since: payoutsHaltedSince,
      doctor: doctor === null ? null : { checks: doctor.checks, violations: doctor.violations, age_ms: doctor.ageMs },
    });
  }

  #diskFault(): readonly string[] | null {
    const { freeMib, minMib } = this.#settings.disk;
    return freeMib >= minMib ? null : [`the disk has ${freeMib} MiB free; new work is taken again at ${minMib}`];
  }

  @Get('metrics')
  async metrics(@Res() response: Response): Promise<void> {
    await this.#books.seen().then(
      (seen) => this.#metrics.noteBooks(seen),
      () => this.#metrics.forgetBooks(),
    );
    response.setHeader('content-type', this.#metrics.registry.contentType);
    response.end(await this.#metrics.registry.metrics());
  }
}

function areRight({ payoutsHaltedSince, doctor }: BooksSeen): boolean {
  return payoutsHaltedSince === null && (doctor?.violations ?? 0) === 0;
}

/** Names what fails, never how: details belong into the log, this is public. */
async function check(name: string, ask: () => Promise<unknown>): Promise<{ name: string; ok: boolean }> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('late')), CHECK_MS);
  });
  try {
    await Promise.race([ask(), late]);
    return { name, ok: true };
  } catch {
    // Any failure is the answer to this question.
    return { name, ok: false };
  } finally {
    clearTimeout(timer);
  }
}
