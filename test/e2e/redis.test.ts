import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testRedis, type TestRedis } from '@freehold/wiring/embedded';
import { Market } from './market.ts';

const ROWS = 24;

interface Card {
  batches: { rowsIn: number; succeeded: number; failed: number; duplicates: number }[];
  cheat: { badRowsDelivered: number; paid: string };
  charged: string;
  cap: string;
  settlement: { escrow: string; ledger: string; balanced: boolean };
  doctor: { checks: number; violations: number };
  holds: boolean;
}

function rowOf(n: number): string {
  const body = { model: 'use-lite', input: `row ${n} of a batch that travels over Redis` };
  return JSON.stringify({ custom_id: `row-${n}`, method: 'POST', url: '/v1/embeddings', body });
}

describe('npm start with the queue on Redis', () => {
  let redis: TestRedis | null;
  beforeAll(async () => {
    redis = await testRedis();
  });
  afterAll(() => redis?.stop());

  it('keeps the same promises: every row once, charged within the cap, books that agree with the chain', async () => {
    if (redis === null) return;
    const dataDir = mkdtempSync(join(tmpdir(), 'freehold-e2e-redis-'));
    const file = join(dataDir, 'rows.jsonl');
    writeFileSync(file, Array.from({ length: ROWS }, (_, n) => rowOf(n)).join('\n'));
    const market = Market.start(['--once', '--batch', file], dataDir, { REDIS_URL: redis.url });
    try {
      await market.line();
      const card = await market.line<Card>();
      expect(card.batches).toEqual([
        expect.objectContaining({ rowsIn: ROWS, succeeded: ROWS, failed: 0, duplicates: 0 }),
      ]);
      expect(card.cheat).toMatchObject({ badRowsDelivered: 0, paid: '0' });
      expect(BigInt(card.charged)).toBeGreaterThan(0n);
      expect(BigInt(card.charged)).toBeLessThanOrEqual(BigInt(card.cap));
      expect(card.settlement.balanced).toBe(true);
      expect(card.doctor.violations).toBe(0);
      expect(card.doctor.checks).toBeGreaterThan(0);
      // The wake-ups did travel over Redis.
      expect(await redis.size()).toBeGreaterThan(0);
      expect([await market.exited, card.holds]).toEqual([0, true]);
      expect(market.processes()).toEqual([]);
    } finally {
      await market.stop();
      market.remove();
    }
  }, 180_000);
});
