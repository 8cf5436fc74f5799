import { shapeOf, type Llama, type LlamaConfig, type Weight } from './llama.ts';

/** A Llama of random weights for tests: the network in all its parts, in a size whose gradients can be checked by hand. */
export function randomLlama(overrides: Partial<LlamaConfig> = {}): Llama {
  const config: LlamaConfig = {
    layers: 2,
    width: 12,
    heads: 4,
    kvHeads: 2,
    headWidth: 6,
    ffn: 20,
    vocabulary: 23,
    contextTokens: 64,
    ropeBase: 10_000,
    normEpsilon: 1e-5,
    ...overrides,
  };
  let state = 12_345;
  const next = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
  const weights = new Map<string, Weight>();
  const make = (rows: number, columns: number, around: number, spread: number): Weight => ({
    rows,
    columns,
    data: Float32Array.from({ length: rows * columns }, () => around + spread * next()),
  });
  const tensor = (name: string): Weight => {
    const known = weights.get(name);
    if (known !== undefined) return known;
    const target = /^blk\.\d+\.(\w+)\.weight$/u.exec(name)?.[1];
    const made = name.endsWith('norm.weight')
      ? make(1, config.width, 1, 0.4)
      : target === undefined
        ? make(config.vocabulary, config.width, 0, 2)
        : make(
            shapeOf(config, target).rows,
            shapeOf(config, target).columns,
            0,
            3 / Math.sqrt(shapeOf(config, target).columns),
          );
    weights.set(name, made);
    return made;
  };
  return { config, tensor };
}
