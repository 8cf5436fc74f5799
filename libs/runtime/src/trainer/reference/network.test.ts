import { describe, expect, it } from '@jest/globals';
import { LORA_TARGETS } from '@freehold/protocol';
import type { Example } from './example.ts';
import { Kernel } from './kernel.ts';
import { Network } from './network.ts';
import { randomLlama } from './random-llama.ts';

const example = (tokens: readonly number[], trainedFrom: number): Example => ({
  tokens: Int32Array.from(tokens),
  trained: Uint8Array.from(tokens, (_, i) => (i >= trainedFrom ? 1 : 0)),
});
const EXAMPLES = [example([1, 5, 9, 2, 7, 11, 3, 3, 20], 5), example([4, 4, 8], 1), example([22, 0, 13, 6, 6, 17], 5)];

function network(): { kernel: Kernel; net: Network } {
  const kernel = new Kernel();
  const net = new Network(kernel, randomLlama(), LORA_TARGETS, { rank: 3, alpha: 4 }, 32);
  let state = 1;
  for (const { at, shape } of net.parameters)
    for (let i = 0; i < shape[0] * shape[1]; i += 1) {
      state = (Math.imul(state, 48_271) + 11) >>> 0;
      kernel.f32[at + i] = 0.6 * (state / 2 ** 32 - 0.5);
    }
  net.refresh();
  return { kernel, net };
}
const lossOf = (net: Network, examples: readonly Example[]): number =>
  net.pass(examples, undefined).reduce((sum, { loss }) => sum + loss, 0);

describe('the network', () => {
  it('has the gradient that finite differences show, in every adapted matrix', () => {
    const { kernel, net } = network();
    const weight = 1 / 7;
    net.pass(EXAMPLES, weight);
    net.finishGradients();
    const gradient = kernel.f32.slice();
    let checked = 0;
    for (const { name, at, gradientAt, shape } of net.parameters) {
      const count = shape[0] * shape[1];
      const size = Math.max(...Array.from({ length: count }, (_, i) => Math.abs(gradient[gradientAt + i] as number)));
      expect(size).toBeGreaterThan(1e-4);
      for (let i = 0; i < count; i += Math.max(1, Math.floor(count / 5))) {
        const before = kernel.f32[at + i] as number;
        const moved = (by: number): number => {
          kernel.f32[at + i] = before + by;
          net.refresh();
          return lossOf(net, EXAMPLES) * weight;
        };
        const h = 0.02;
        // Fourth order: F32 passes forbid a small h.
        const slope = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h);
        kernel.f32[at + i] = before;
        const off = Math.abs((gradient[gradientAt + i] as number) - slope) / size;
        expect({ name, i, good: off < 5e-3 }).toEqual({ name, i, good: true });
        checked += 1;
      }
    }
    expect(checked).toBeGreaterThan(100);
  });

  it('gives each example the loss it has alone, and no later token a say', () => {
    const { net } = network();
    const together = net.pass(EXAMPLES, undefined);
    const alone = EXAMPLES.map((each) => net.pass([each], undefined)[0]);
    expect(together).toEqual(alone);
    const longer = example([1, 5, 9, 2, 7, 11, 3, 3, 20, 14, 15], 5);
    const cut: Example = { ...longer, trained: longer.trained.map((flag, i) => (i < 9 ? flag : 0)) };
    expect(net.pass([cut], undefined)[0]?.loss).toBe(together[0]?.loss);
  });

  it('adds up gradients over passes as if all examples had passed together', () => {
    const { kernel, net } = network();
    const read = (): number[] =>
      net.parameters.flatMap(({ gradientAt, shape }) => [
        ...kernel.f32.subarray(gradientAt, gradientAt + shape[0] * shape[1]),
      ]);
    net.pass(EXAMPLES, 0.5);
    const together = read();
    for (const { gradientAt, shape } of net.parameters)
      kernel.f32.fill(0, gradientAt, gradientAt + shape[0] * shape[1]);
    for (const each of EXAMPLES) net.pass([each], 0.5);
    read().forEach((value, i) => expect(Math.abs(value - (together[i] as number))).toBeLessThan(1e-5));
  });
});
