import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { embedding, NEVER, TinyEngine } from './market.fixture.ts';
import { engineInMode, Flapper } from './simulation.ts';

describe('a flapper', () => {
  it('dies once in each of its first four leases, over all its restarts, and then never again', () => {
    const folder = mkdtempSync(join(tmpdir(), 'freehold-flapper-'));
    const path = join(folder, 'deaths');
    const died: string[] = [];
    for (const lease of ['a', 'b', 'b', 'c', 'd', 'e', 'f']) {
      const flapper = new Flapper(path, () => void died.push(lease));
      for (const done of [1, 2, 3, 4, 5]) flapper.afterRows(lease, done);
    }
    expect(died).toEqual(['a', 'b', 'c', 'd']);
    rmSync(folder, { recursive: true });
  });
});

describe('a cheat', () => {
  it('lies about roughly half of the rows, the same ones each time, with vectors of the right shape', async () => {
    const honest = new TinyEngine();
    const cheat = engineInMode(new TinyEngine(), 'cheat');
    let lies = 0;
    for (let i = 0; i < 64; i += 1) {
      const work = embedding(`row ${i}`);
      const [truth, told, again] = [
        await honest.embed('vectors', work, NEVER),
        await cheat.embed('vectors', work, NEVER),
        await cheat.embed('vectors', work, NEVER),
      ];
      expect(told).toEqual(again);
      if (told.kind !== 'embedding' || truth.kind !== 'embedding') throw new Error('unexpected failure');
      expect(told.vectors[0]).toHaveLength(truth.vectors[0]?.length ?? 0);
      if (told.vectors[0] !== truth.vectors[0]) lies += 1;
    }
    expect(lies).toBeGreaterThan(16);
    expect(lies).toBeLessThan(48);
  });
});
