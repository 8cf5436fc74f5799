import { describe, expect, it } from '@jest/globals';
import { byUrgency, chance, PRIORITY_STEP_MS } from '@freehold/domain';
import { TaskQueue } from './task-queue.ts';

describe('TaskQueue', () => {
  it('gives tasks out in the order of urgency, whatever the order and time of their coming', () => {
    const rng = chance(4);
    const nowMs = 10_000_000;
    const tasks = Array.from({ length: 2_000 }, (_, job) => {
      const createdAtMs = rng.below(nowMs);
      const priority = rng.below(4);
      return { job, row: 0, createdAtMs, deadlineAtMs: createdAtMs + rng.below(7_200_000), priority };
    });
    const queue = new TaskQueue();
    for (const task of tasks) queue.add({ ...task, taskClass: 0 }, task.createdAtMs, task.deadlineAtMs, task.priority);
    const turn = (job: number) => {
      const task = tasks[job];
      if (task === undefined) throw new Error('expected a task of the list');
      const ask = { jobId: String(job).padStart(5, '0'), deadlineInMs: task.deadlineAtMs - nowMs };
      return { ask, ageMs: nowMs - task.createdAtMs, priority: task.priority };
    };
    const order = tasks.map(() => queue.take(0)?.job ?? -1);
    expect(order).toEqual([...tasks.keys()].sort((a, b) => byUrgency(turn(a), turn(b))));
    expect(queue.size).toBe(0);
    expect(queue.take(0)).toBeNull();
  });

  it('keeps classes apart, so that one that finds no room holds up no other', () => {
    const queue = new TaskQueue();
    queue.add({ job: 1, row: 0, taskClass: 7 }, 0, 1_000);
    queue.add({ job: 2, row: 0, taskClass: 8 }, 0, 2_000);
    queue.add({ job: 3, row: 0, taskClass: 8 }, 0, 2_000 + PRIORITY_STEP_MS, 2);
    expect(queue.mostUrgentClass(new Set())).toBe(8);
    expect(queue.mostUrgentClass(new Set([8]))).toBe(7);
    expect(queue.take(8)).toMatchObject({ job: 3 });
    expect(queue.mostUrgentClass(new Set([7, 8]))).toBeNull();
  });

  it('uses places again, so that a long-lived queue does not grow', () => {
    const queue = new TaskQueue();
    queue.add({ job: 0, row: 0, taskClass: 0 }, 0, 0);
    const { bytes } = queue;
    for (let i = 1; i < 10_000; i += 1) {
      queue.add({ job: i, row: 0, taskClass: 0 }, i, i);
      queue.take(0);
    }
    expect(queue.bytes).toBe(bytes);
    expect(() => queue.add({ job: 0, row: 0, taskClass: 0 }, Number.NaN, 0)).toThrow(/expected finite times, got NaN/);
  });
});
