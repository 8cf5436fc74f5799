import { describe, expect, it } from '@jest/globals';
import type { Ask, Candidate } from './ask.ts';
import { chance } from './chance.ts';
import { GangDesk, RESERVATION_GRACE_MS, takeGang, type RunningWork } from './gangs.ts';
import { askFor, candidate, economyOf } from './matching.fixture.ts';
import { PlacementIndex } from './placement-index/placement-index.ts';
import { victimsFor, YIELDS_MAX, type HeldWork } from './yielding.ts';

const economy = economyOf();
const HOUR_MS = 3_600_000;

function fleet(nodes: number, gpus = 4): PlacementIndex {
  const index = new PlacementIndex(nodes, economy);
  for (let id = 0; id < nodes; id += 1) index.put(machine(`n${id}`, gpus));
  return index;
}

function machine(nodeId: string, gpus: number): Candidate {
  const gpu = { model: 'T4', vramMib: 16_384, milli: 1_000, freeMilli: 1_000 };
  return candidate(nodeId, { gpus: Array.from({ length: gpus }, () => gpu) });
}

const whole = (gpus: number): Ask => askFor({ gpus, gpuMilli: 1_000 });

/** Runs one piece of work on the index and remembers it. */
function run(index: PlacementIndex, ask: Ask, endsAtMs: number): RunningWork {
  const task = index.classOf(ask);
  const choice = index.best(task);
  if (choice === null) throw new Error('expected room');
  index.take(task, choice);
  return { task, choice, endsAtMs };
}

describe('gangs', () => {
  it('take all members or none', () => {
    const index = fleet(3);
    const task = index.classOf(whole(4));
    expect(takeGang(index, task, 4)).toBeNull();
    expect(takeGang(index, task, 3)).toHaveLength(3);
    expect(index.best(index.classOf(whole(1)))).toBeNull();
  });

  it('that cannot start reserve the nodes that are free first; shorter work runs under the reservation, longer does not', () => {
    const index = fleet(2);
    const desk = new GangDesk(index);
    const running = [run(index, whole(2), HOUR_MS), run(index, whole(4), 2 * HOUR_MS)];
    const gang = { gangId: 'g', ask: whole(4), members: 1 };
    expect(desk.place(gang, running, 0)).toMatchObject({ reserved: { nodes: [0], startsAtMs: HOUR_MS } });
    expect(desk.backfill(whole(2), HOUR_MS + 1, 0)).toBeNull();
    expect(desk.backfill(whole(2), HOUR_MS, 0)).toMatchObject({ node: 0 });
    for (const { task, choice } of running.slice(0, 1)) index.give(task, choice);
    expect(desk.place(gang, running.slice(1), HOUR_MS)).toMatchObject({ placed: [{ node: 0 }] });
    expect(desk.reservations()).toEqual([]);
  });

  it('lose their reservation when its time is up, so that nothing stands idle for ever', () => {
    const index = fleet(1);
    const desk = new GangDesk(index);
    const running = [run(index, whole(1), HOUR_MS)];
    const gang = { gangId: 'g', ask: whole(4), members: 1 };
    desk.place(gang, running, 0);
    expect(index.best(index.classOf(whole(1)))).toBeNull();
    desk.expire(HOUR_MS + RESERVATION_GRACE_MS - 1);
    expect(desk.reservations()).toHaveLength(1);
    desk.expire(HOUR_MS + RESERVATION_GRACE_MS);
    expect(index.best(index.classOf(whole(1)))).toMatchObject({ node: 0 });
  });

  it('whose estimate was wrong leave their nodes to others for as long as they held them, and then have their turn again', () => {
    const index = fleet(1);
    const desk = new GangDesk(index);
    const gang = { gangId: 'g', ask: whole(4), members: 1 };
    const one = index.classOf(whole(1));
    // Said to end in an hour, again and again; it never does.
    const late = run(index, whole(1), 0);
    let idleMs = 0;
    const stepMs = HOUR_MS / 4;
    for (let nowMs = 0; nowMs < 24 * HOUR_MS; nowMs += stepMs) {
      desk.place(gang, [{ ...late, endsAtMs: nowMs + HOUR_MS }], nowMs);
      if (index.best(one) === null) idleMs += stepMs;
    }
    expect(idleMs).toBeGreaterThan(4 * HOUR_MS);
    expect(idleMs).toBeLessThan(16 * HOUR_MS);
    const ends = { ...late, endsAtMs: 49 * HOUR_MS };
    expect(desk.place(gang, [ends], 48 * HOUR_MS)).toMatchObject({ reserved: { startsAtMs: 49 * HOUR_MS } });
  });

  it('that others’ reservations keep out wait for them, and are not told that they never fit', () => {
    const index = fleet(2);
    const desk = new GangDesk(index);
    const running = [run(index, whole(1), HOUR_MS), run(index, whole(4), HOUR_MS)];
    const all = { gangId: 'all', ask: whole(4), members: 2 };
    expect(desk.place(all, running, 0)).toMatchObject({ reserved: { nodes: [0, 1] } });
    expect(desk.place({ ...all, gangId: 'next' }, running, 0)).toEqual({ waits: 'nodes-reserved' });
    expect(desk.place({ ...all, gangId: 'huge', members: 3 }, running, 0)).toEqual({ refused: 'never-fits' });
    // Nothing of all this trying is left behind: the reservation and the work that runs stand.
    expect(desk.reservations().map(({ gangId }) => gangId)).toEqual(['all']);
    expect(index.best(index.classOf(whole(1)))).toBeNull();
    for (const { task, choice } of running) index.give(task, choice);
    expect(desk.place(all, [], HOUR_MS)).toHaveProperty('placed');
  });

  it('that no fleet could ever hold are refused, and the rest goes on', () => {
    const index = fleet(2);
    const desk = new GangDesk(index);
    const running = [run(index, whole(1), HOUR_MS)];
    expect(desk.place({ gangId: 'huge', ask: whole(4), members: 3 }, running, 0)).toEqual({ refused: 'never-fits' });
    expect(desk.place({ gangId: 'fits', ask: whole(3), members: 2 }, running, 0)).toHaveProperty('placed');
  });
});

describe('yielding', () => {
  it('costs the least that makes room, and never as much as it brings', () => {
    const index = fleet(2, 2);
    const held = [5, 4, 1, 9].map((value, i): HeldWork => {
      const { task, choice } = run(index, whole(1), 0);
      return { workId: `w${i}`, task, choice, value, yields: 0 };
    });
    const task = index.classOf(whole(2));
    const found = victimsFor(index, task, 10, held);
    expect(found?.victims.map(({ value }) => value).sort()).toEqual([4, 5]);
    expect(victimsFor(index, task, 9, held)).toBeNull();
    const settled = held.map((work) => ({ ...work, yields: YIELDS_MAX }));
    expect(victimsFor(index, task, 100, settled)).toBeNull();
    expect(index.best(index.classOf(whole(1)))).toBeNull();
  });

  it('ends: whatever wants in, no work yields more than its limit and the value that runs only grows', () => {
    const rng = chance(2);
    for (let world = 0; world < 50; world += 1) {
      const index = fleet(3, 4);
      let held: HeldWork[] = [];
      let queue = Array.from({ length: 40 }, (_, i) => ({
        workId: `w${i}`,
        ask: whole(1 + rng.below(4)),
        value: 1 + rng.below(100),
        yields: 0,
      }));
      let worth = 0;
      let moves = 0;
      for (let isMoving = true; isMoving;) {
        isMoving = false;
        for (const work of [...queue]) {
          const task = index.classOf(work.ask);
          const found = index.best(task);
          const yielding = found === null ? victimsFor(index, task, work.value, held) : null;
          const choice = found ?? yielding?.choice;
          if (choice === undefined) continue;
          for (const victim of yielding?.victims ?? []) {
            index.give(victim.task, victim.choice);
            held = held.filter((one) => one !== victim);
            queue.push({ workId: victim.workId, ask: victim.task.ask, value: victim.value, yields: victim.yields + 1 });
          }
          index.take(task, choice);
          queue = queue.filter((one) => one !== work);
          held.push({ workId: work.workId, task, choice, value: work.value, yields: work.yields });
          const now = held.reduce((sum, { value }) => sum + value, 0);
          expect(now).toBeGreaterThan(worth);
          expect(work.yields).toBeLessThanOrEqual(YIELDS_MAX);
          worth = now;
          moves += 1;
          isMoving = true;
        }
        expect(moves).toBeLessThanOrEqual(40 * (YIELDS_MAX + 1));
      }
    }
  });
});
