import { expect, it } from '@jest/globals';
import { Trainer } from '@freehold/market';
import { TRAINER_MEMORY_MIB } from '../models.ts';
import { AuditorMemory } from './auditor-memory.ts';

class Idle extends Trainer {
  #nobody = async (): Promise<never> => await Promise.reject(new Error('nobody asks'));
  hello = this.#nobody;
  plan = this.#nobody;
  run = this.#nobody;
  evaluate = this.#nobody;
  export = this.#nobody;
  ping = this.#nobody;
  close = async (): Promise<void> => undefined;
}
const start = (): Trainer => new Idle();

it('starts a trainer for an audit where AUDITOR_MIB has room, and again when one was closed', async () => {
  const memory = new AuditorMemory(TRAINER_MEMORY_MIB + 100);
  const first = memory.startTrainer(start, 'audit');
  expect(() => memory.startTrainer(start, 'audit')).toThrow(/AUDITOR_MIB/);
  expect(memory.trainersMib).toBe(TRAINER_MEMORY_MIB);
  await first.close();
  await first.close();
  expect(memory.trainersMib).toBe(0);
  await memory.startTrainer(start, 'audit').close();
});

it('asks engines for room, and never refuses a job what nobody else can do for it', () => {
  const memory = new AuditorMemory(TRAINER_MEMORY_MIB);
  const asked: number[] = [];
  memory.shareWith((memoryMib) => {
    asked.push(memoryMib);
    return false;
  });
  expect(() => memory.startTrainer(start, 'audit')).toThrow(/wait/);
  memory.startTrainer(start, 'job');
  expect([asked, memory.trainersMib]).toEqual([[TRAINER_MEMORY_MIB, TRAINER_MEMORY_MIB], TRAINER_MEMORY_MIB]);
});
