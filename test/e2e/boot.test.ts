import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { freePort } from '@freehold/wiring/embedded';
import { Market } from './market.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'freehold-boot-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

/** Ended by itself: exit code and what the person at the terminal read. */
async function ended(
  flags: string[],
  dataDir: string,
  env: Record<string, string> = {},
): Promise<[number | null, string]> {
  const market = Market.start(['--once', ...flags], dataDir, env);
  const code = await market.exited;
  expect(market.processes()).toEqual([]);
  return [code, market.stderr];
}

describe('npm start over what cannot be', () => {
  it('says in one breath what is wrong, shows no stack, leaves nothing behind and exits with 1', async () => {
    const nobody = `127.0.0.1:${await freePort()}`;
    const broken = join(folder, 'broken.jsonl');
    writeFileSync(broken, '{"custom_id":\n');
    const data = join(folder, 'untouched');
    const starts: [Promise<[number | null, string]>, RegExp][] = [
      [ended([], '/proc/x'), /data folder \/proc\/x cannot be made/],
      [ended(['--batch', broken], data), /broken\.jsonl:\n {2}line 1: .*not valid JSON/],
      [
        ended([], join(folder, 'db'), { DATABASE_URL: `postgres://u@${nobody}/x` }),
        /FAILED: DATABASE_URL: tried .*ECONNREFUSED/,
      ],
    ];
    for (const [start, said] of starts) {
      const [code, stderr] = await start;
      expect([code, stderr]).toEqual([1, expect.stringMatching(said)]);
      expect(stderr).not.toMatch(/^\s+at |Postgres and chain are up/m);
    }
    expect(existsSync(data)).toBe(false);
  }, 120_000);
});

describe('Ctrl-C while npm start comes up', () => {
  const dataDir = (): string => join(folder, 'interrupted');
  const isUp = (): boolean => existsSync(join(dataDir(), 'postgres', 'pgdata', 'postmaster.pid'));

  async function interruptedWhen(is: (market: Market) => boolean): Promise<Market> {
    const market = Market.start([], dataDir());
    while (!is(market)) {
      expect([await Promise.race([market.exited, sleep(20, 'runs')]), market.stderr]).toEqual([
        'runs',
        expect.any(String),
      ]);
    }
    market.interrupt();
    expect([await market.exited, market.stderr]).toEqual([130, expect.stringContaining('stopping')]);
    expect(market.stderr).not.toMatch(/FAILED|^\s+at /m);
    expect(market.processes()).toEqual([]);
    expect(isUp()).toBe(false);
    expect(existsSync(join(dataDir(), 'launcher.json'))).toBe(false);
    return market;
  }

  it('stops every child in each phase, leaves nothing behind, and the next start works', async () => {
    await interruptedWhen(() => existsSync(join(dataDir(), 'launcher.json')));
    await interruptedWhen(() => isUp());
    await interruptedWhen((market) => market.stderr.includes('Postgres and chain are up'));
    const last = await interruptedWhen((market) => market.stderr.includes('the API answers'));
    expect(last.stderr).toContain('contracts stand at');
    expect(readFileSync(join(dataDir(), 'logs', 'api.log'), 'utf8')).toContain('api is up');
  }, 180_000);
});
