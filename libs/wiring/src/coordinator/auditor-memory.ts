import { Trainer, TrainerError } from '@freehold/market';
import { TRAINER_MEMORY_MIB } from '../models.ts';

/**
 * AUDITOR_MIB: the one limit that this process's own engines and trainers share. Engines make room by closing idle ones. A
 * trainer that audits is refused where there is none, and asked again later; one that validates or exports a job is not,
 * because nobody else can, but what it takes is not given to engines meanwhile.
 */
export class AuditorMemory {
  readonly limitMib: number;
  #trainersMib = 0;
  #makeRoom: (memoryMib: number) => boolean = (memoryMib) => this.#trainersMib + memoryMib <= this.limitMib;

  constructor(limitMib: number) {
    this.limitMib = limitMib;
  }

  get trainersMib(): number {
    return this.#trainersMib;
  }

  /** Engines that can close idle processes for a trainer. */
  shareWith(makeRoom: (memoryMib: number) => boolean): void {
    this.#makeRoom = makeRoom;
  }

  /** @throws {TrainerError} Retryable, where an audit has no room. */
  startTrainer(start: () => Trainer, purpose: 'audit' | 'job'): Trainer {
    if (!this.#makeRoom(TRAINER_MEMORY_MIB) && purpose === 'audit')
      throw new TrainerError(
        'out_of_memory',
        `No ${TRAINER_MEMORY_MIB} MiB for a trainer beside the coordinator's engines in use: raise AUDITOR_MIB (${this.limitMib}), or wait.`,
        true,
      );
    const trainer = start();
    this.#trainersMib += TRAINER_MEMORY_MIB;
    return new CountedTrainer(trainer, () => (this.#trainersMib -= TRAINER_MEMORY_MIB));
  }
}

/** A trainer whose memory is given back once, when it is closed. */
class CountedTrainer extends Trainer {
  readonly #trainer: Trainer;
  #giveBack: (() => void) | null;

  constructor(trainer: Trainer, giveBack: () => void) {
    super();
    this.#trainer = trainer;
    this.#giveBack = giveBack;
  }

  hello(): ReturnType<Trainer['hello']> {
    return this.#trainer.hello();
  }
  plan(...call: Parameters<Trainer['plan']>): ReturnType<Trainer['plan']> {
    return this.#trainer.plan(...call);
  }
  run(...call: Parameters<Trainer['run']>): ReturnType<Trainer['run']> {
    return this.#trainer.run(...call);
  }
  evaluate(...call: Parameters<Trainer['evaluate']>): ReturnType<Trainer['evaluate']> {
    return this.#trainer.evaluate(...call);
  }
  export(...call: Parameters<Trainer['export']>): ReturnType<Trainer['export']> {
    return this.#trainer.export(...call);
  }
  ping(): Promise<void> {
    return this.#trainer.ping();
  }
  async close(): Promise<void> {
    await this.#trainer.close();
    this.#giveBack?.();
    this.#giveBack = null;
  }
}
