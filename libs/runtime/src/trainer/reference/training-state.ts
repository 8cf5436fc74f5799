import { createHash } from 'node:crypto';
import { endianness } from 'node:os';
import { TrainerError } from '@freehold/market/trainer';
import { planHash, stateHash, type StateTensor, type TrainingPlan } from '@freehold/protocol/trainer';
import { readSafetensors } from '../../../../../models/freehold-tiny/index.mjs';
import type { Moments } from './adamw.ts';
import { initialA } from './initial-state.ts';
import type { Kernel } from './kernel.ts';
import type { Parameter } from './linear.ts';
import { writeSafetensors } from './write-safetensors.ts';

const FORMAT = 'freehold training state v1';

/** All that the next step depends on: the adapter's weights (in the kernel's memory), the moments, and the steps done. */
export class TrainingState {
  step = 0;
  readonly moments: ReadonlyMap<string, Moments>;
  readonly #kernel: Kernel;
  readonly #parameters: readonly Parameter[];
  readonly #plan: TrainingPlan;

  constructor(kernel: Kernel, parameters: readonly Parameter[], plan: TrainingPlan) {
    this.#kernel = kernel;
    this.#parameters = parameters;
    this.#plan = plan;
    this.moments = new Map(
      parameters.map(({ name, shape }) => {
        const count = shape[0] * shape[1];
        return [name, { m: new Float32Array(count), v: new Float32Array(count) }];
      }),
    );
    this.begin();
  }

  /** The state before the first step. */
  begin(): void {
    this.step = 0;
    for (const { name, shape, at } of this.#parameters) {
      const count = shape[0] * shape[1];
      const values = name.endsWith('.lora_a') ? initialA(name, this.#plan.seed, ...shape) : new Float32Array(count);
      this.#kernel.f32.set(values, at);
    }
    for (const { m, v } of this.moments.values()) {
      m.fill(0);
      v.fill(0);
    }
  }

  hash(): string {
    return stateHash(this.step, this.#tensors(), createHash('sha256'));
  }

  /** The state as a safetensors file of F32 tensors. */
  encode(): Buffer {
    const { base, data } = this.#plan;
    const metadata = {
      format: FORMAT,
      step: String(this.step),
      plan: planHash(this.#plan),
      base: base.sha256,
      data: data.sha256,
    };
    return writeSafetensors(metadata, this.#tensors());
  }

  /** Takes a state over. @throws {TrainerError} When the bytes are broken, or the state is another run's. */
  decode(bytes: Buffer): void {
    const { metadata, tensors } = parsed(bytes);
    const { base, data } = this.#plan;
    if (metadata['format'] !== FORMAT)
      throw broken(`its format is ${JSON.stringify(metadata['format'])}, expected "${FORMAT}"`);
    if (metadata['base'] !== base.sha256)
      throw mismatch(`base ${metadata['base']}`, `base ${base.sha256} (${base.model})`);
    if (metadata['data'] !== data.sha256) throw mismatch(`data ${metadata['data']}`, `data ${data.sha256}`);
    if (metadata['plan'] !== planHash(this.#plan))
      throw mismatch(`plan ${metadata['plan']}`, `plan ${planHash(this.#plan)}`);
    const step = Number(metadata['step']);
    if (!Number.isSafeInteger(step) || step < 0 || step > this.#plan.steps)
      throw broken(`its step is ${metadata['step']}`);
    const wanted = this.#targets();
    if (tensors.length !== wanted.size) throw broken(`it has ${tensors.length} tensors, expected ${wanted.size}`);
    for (const { name, shape, data: values } of tensors) {
      const target = wanted.get(name);
      if (target === undefined || target.shape.join() !== shape.join())
        throw broken(`its tensor ${name} of shape [${shape.join(', ')}] has no place`);
      target.numbers.set(values);
    }
    this.step = step;
  }

  #targets(): Map<string, { readonly shape: readonly number[]; readonly numbers: Float32Array }> {
    const { f32 } = this.#kernel;
    return new Map(
      this.#parameters.flatMap(({ name, shape, at }) => {
        const { m, v } = this.moments.get(name) as Moments;
        return [
          [name, { shape, numbers: f32.subarray(at, at + shape[0] * shape[1]) }] as const,
          [`adamw.m.${name}`, { shape, numbers: m }] as const,
          [`adamw.v.${name}`, { shape, numbers: v }] as const,
        ];
      }),
    );
  }

  #tensors(): StateTensor[] {
    return [...this.#targets()].map(([name, { shape, numbers }]) => ({ name, shape, data: littleEndian(numbers) }));
  }
}

/** The numbers as little-endian F32, whatever the machine: a look at them, or a copy where they lie the other way round. */
export function littleEndian(numbers: Float32Array): Uint8Array {
  if (endianness() === 'LE') return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  const bytes = new Uint8Array(numbers.length * 4);
  const view = new DataView(bytes.buffer);
  numbers.forEach((value, i) => view.setFloat32(i * 4, value, true));
  return bytes;
}

function parsed(bytes: Buffer): ReturnType<typeof readSafetensors> {
  try {
    return readSafetensors(bytes);
  } catch (error) {
    throw broken(String(error));
  }
}

function broken(why: string): TrainerError {
  return new TrainerError('checkpoint_invalid', `The checkpoint cannot be used: ${why}.`, false);
}

function mismatch(found: string, wanted: string): TrainerError {
  return new TrainerError('checkpoint_mismatch', `The checkpoint is of ${found}, this run of ${wanted}.`, false);
}
