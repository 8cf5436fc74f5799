/** One class of typical work and how often it comes. The mix of these is what free GPU capacity is judged against. */
export interface TypicalWork {
  /** Part of all arrivals, 0..1; the classes of a mix add up to 1. */
  readonly share: number;
  readonly gpus: number;
  /** Of each GPU; 1,000 is a whole one. */
  readonly gpuMilli: number;
  readonly cpuMilli: number;
  readonly memoryMib: number;
  /** Empty: any. */
  readonly gpuModels: readonly string[];
}

/** GPU models are bits of a number. A fleet with more models than this files the rest under one bit that no class names. */
export const GPU_MODELS_MAX = 31;

/** Gives each GPU model its bit, in the order of first sight. */
export class GpuModels {
  readonly #bits = new Map<string, number>();

  bit(model: string): number {
    const known = this.#bits.get(model);
    if (known !== undefined) return known;
    const bit = 1 << Math.min(this.#bits.size, GPU_MODELS_MAX - 1);
    this.#bits.set(model, bit);
    return bit;
  }

  /** Bits of an allow-list; 0 allows every model. */
  mask(models: readonly string[]): number {
    return models.reduce((mask, model) => mask | this.bit(model), 0);
  }
}

/**
 * How much of a node's free GPU capacity typical work cannot use ("fragment", USENIX ATC'23 on fragmentation in GPU sharing):
 * for each typical class all free GPU milli when the node cannot run it (or it needs no GPU), else the free milli on GPUs too
 * small for it; the mean over the mix.
 *
 * Reads a node once ({@link weigh}), then answers for several takings of it ({@link after}): both are the inner loop of every
 * placement, so they run over typed arrays and allocate nothing. Free milli stand sorted ascending.
 */
export class FragmentationGauge {
  readonly models: GpuModels;
  readonly #count: number;
  readonly #share: Float64Array;
  readonly #gpus: Int32Array;
  readonly #milli: Int32Array;
  readonly #cpu: Float64Array;
  readonly #memory: Float64Array;
  readonly #mask: Int32Array;
  /** Of the node weighed last, per class: GPUs with enough free milli, and free milli on the others. */
  readonly #enough: Int32Array;
  readonly #tooSmall: Int32Array;
  #modelBit = 0;
  #total = 0;

  constructor(mix: readonly TypicalWork[], models = new GpuModels()) {
    this.models = models;
    this.#count = mix.length;
    this.#share = Float64Array.from(mix, (work) => work.share);
    this.#gpus = Int32Array.from(mix, (work) => work.gpus);
    this.#milli = Int32Array.from(mix, (work) => work.gpuMilli);
    this.#cpu = Float64Array.from(mix, (work) => work.cpuMilli);
    this.#memory = Float64Array.from(mix, (work) => work.memoryMib);
    this.#mask = Int32Array.from(mix, (work) => models.mask(work.gpuModels));
    this.#enough = new Int32Array(mix.length);
    this.#tooSmall = new Int32Array(mix.length);
  }

  /** The fragment of a node, in GPU milli. */
  weigh(
    modelBit: number,
    cpuMilli: number,
    memoryMib: number,
    free: ArrayLike<number>,
    from: number,
    gpus: number,
  ): number {
    let total = 0;
    for (let i = from; i < from + gpus; i += 1) total += free[i] ?? 0;
    this.#modelBit = modelBit;
    this.#total = total;
    for (let m = 0; m < this.#count; m += 1) {
      const milli = this.#milli[m] ?? 0;
      let tooSmall = 0;
      let at = from;
      for (; at < from + gpus; at += 1) {
        const here = free[at] ?? 0;
        if (here >= milli) break;
        tooSmall += here;
      }
      this.#enough[m] = from + gpus - at;
      this.#tooSmall[m] = tooSmall;
    }
    return this.#sum(cpuMilli, memoryMib, 0, 0, 0, total);
  }

  /**
   * The fragment of the node weighed last, were `taken` milli taken from each of `gpus` GPUs that have `freeEach` now, and
   * were this much CPU and memory left.
   */
  after(cpuMilli: number, memoryMib: number, gpus: number, freeEach: number, taken: number): number {
    return this.#sum(cpuMilli, memoryMib, gpus, freeEach, taken, this.#total - gpus * taken);
  }

  #sum(cpuMilli: number, memoryMib: number, gpus: number, before: number, taken: number, total: number): number {
    const left = before - taken;
    let fragment = 0;
    for (let m = 0; m < this.#count; m += 1) {
      const needs = this.#gpus[m] ?? 0;
      const milli = this.#milli[m] ?? 0;
      const mask = this.#mask[m] ?? 0;
      let enough = this.#enough[m] ?? 0;
      let tooSmall = this.#tooSmall[m] ?? 0;
      if (gpus > 0 && left < milli) {
        if (before >= milli) {
          enough -= gpus;
          tooSmall += gpus * left;
        } else tooSmall -= gpus * taken;
      }
      const runs =
        needs > 0 &&
        enough >= needs &&
        cpuMilli >= (this.#cpu[m] ?? 0) &&
        memoryMib >= (this.#memory[m] ?? 0) &&
        (mask === 0 || (mask & this.#modelBit) !== 0);
      fragment += (this.#share[m] ?? 0) * (runs ? tooSmall : total);
    }
    return fragment;
  }
}

/** Typical work of a list of past work: classes by how often they came, until they make up {@link TYPICAL_COVERAGE} of it. */
export const TYPICAL_COVERAGE = 0.95;
/** The gauge's cost grows with the classes; a mix flatter than this is cut, and its shares renormalised. */
export const TYPICAL_CLASSES_MAX = 64;

export function typicalWork(
  past: readonly Omit<TypicalWork, 'share'>[],
  coverage = TYPICAL_COVERAGE,
): readonly TypicalWork[] {
  const counts = new Map<string, { work: Omit<TypicalWork, 'share'>; count: number }>();
  for (const { gpus, gpuMilli, cpuMilli, memoryMib, gpuModels } of past) {
    const key = `${cpuMilli}.${gpuMilli}.${gpus}.${gpuModels.join('|')}`;
    const known = counts.get(key);
    if (known === undefined) counts.set(key, { work: { gpus, gpuMilli, cpuMilli, memoryMib, gpuModels }, count: 1 });
    else {
      known.count += 1;
      if (memoryMib < known.work.memoryMib) known.work = { ...known.work, memoryMib };
    }
  }
  const ranked = [...counts.values()].sort((a, b) => b.count - a.count);
  const kept: typeof ranked = [];
  let covered = 0;
  for (const one of ranked) {
    if (covered >= coverage * past.length || kept.length === TYPICAL_CLASSES_MAX) break;
    kept.push(one);
    covered += one.count;
  }
  return kept.map(({ work, count }) => ({ ...work, share: count / covered }));
}
