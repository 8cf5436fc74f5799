import { afterEach, describe, expect, it } from '@jest/globals';
import type { ShownProcess } from '@freehold/persistence';
import { ProcessDirectory } from './process-directory.ts';

const told: string[] = [];
const directories: ProcessDirectory[] = [];
const LINK = {
  peerId: () => 'own',
  addresses: () => ['/own'],
  nodes: () => [{ id: 'node' }],
  tell: (id: string, message: { type: string; processes?: readonly { peer: string }[] }) => {
    told.push(`${id}: ${message.type} ${(message.processes ?? []).map(({ peer }) => peer).join(',')}`);
    return true;
  },
};

afterEach(async () => {
  told.length = 0;
  await Promise.all(directories.splice(0).map((one) => one.onApplicationShutdown()));
});

function scheduler(no: number, shards = 4, peer = `s${no}`): ShownProcess {
  return { role: 'scheduler', no, peer, addresses: [`/${peer}`], shards };
}

/** A scheduler's directory, once it is among the living; each look gives the next list. */
async function directoryOf(no: number, ...looks: ShownProcess[][]): Promise<ProcessDirectory> {
  let look = 0;
  const show = async (): Promise<ShownProcess[]> => {
    const others = looks[Math.min(look, looks.length - 1)] ?? [];
    look += 1;
    return [scheduler(no, 4, 'own'), ...others];
  };
  const register = { no, role: 'scheduler' as const, show, close: async () => undefined };
  const directory = new ProcessDirectory({ register, shards: 4, report: (_, error) => told.push(String(error)) });
  directories.push(directory);
  await directory.enter(LINK, () => undefined);
  return directory;
}

describe('a scheduler', () => {
  it('holds an even part of the shards, all of them when it is alone', async () => {
    expect((await directoryOf(0, [])).shardsMost).toBe(4);
    expect((await directoryOf(0, [scheduler(1)])).shardsMost).toBe(2);
    expect((await directoryOf(1, [scheduler(0), scheduler(2)])).shardsMost).toBe(2);
    expect((await directoryOf(0, [{ ...scheduler(1), role: 'api' }])).shardsMost).toBe(4);
  });

  it('holds none while one that was there before divides the nodes otherwise', async () => {
    expect((await directoryOf(1, [scheduler(0, 2)])).shardsMost).toBe(0);
    expect((await directoryOf(0, [scheduler(1, 2)])).shardsMost).toBe(2);
  });
});

describe('the nodes of a process', () => {
  it('are told of a process that came, and nothing while all stay', async () => {
    const directory = await directoryOf(0, [], [], [scheduler(1)]);
    const deadlineMs = performance.now() + 10_000;
    while (told.length === 0 && performance.now() < deadlineMs) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(told).toEqual(['node: processes own,s1']);
    expect(directory.entries()).toEqual([
      { peer: 'own', addresses: ['/own'], role: 'scheduler' },
      { peer: 's1', addresses: ['/s1'], role: 'scheduler' },
    ]);
  });
});
