import { createRequire } from 'node:module';

/** A tensor in the library's memory; only the library looks inside. */
export interface Tensor {
  readonly shape: readonly number[];
  dataSync(): Float32Array;
  dispose(): void;
}

interface DenseLayer {
  readonly x: Tensor;
  readonly filter: Tensor;
  readonly bias: Tensor;
  readonly strides: 1;
  readonly pad: 'valid';
  readonly activation: 'linear' | 'relu';
}

/**
 * What we use of TensorFlow.js with its WebAssembly backend. The package's own types point to packages that it does not
 * install, so they are written down here.
 */
export interface TensorLibrary {
  ready(): Promise<void>;
  getBackend(): string;
  env(): { readonly features: Readonly<Record<string, unknown>> };
  readonly version: Readonly<Record<string, string>>;
  tidy<T>(work: () => T): T;
  tensor(values: Float32Array, shape: readonly number[], dtype: 'float32'): Tensor;
  tensor1d(values: Int32Array, dtype: 'int32'): Tensor;
  scalar(value: number): Tensor;
  range(start: number, stop: number, step: number, dtype: 'float32'): Tensor;
  reshape(x: Tensor, shape: readonly number[]): Tensor;
  transpose(x: Tensor, order: readonly number[]): Tensor;
  unstack(x: Tensor, axis?: number): Tensor[];
  gather(x: Tensor, indices: Tensor): Tensor;
  concat(parts: readonly Tensor[], axis: number): Tensor;
  add(a: Tensor, b: Tensor): Tensor;
  sub(a: Tensor, b: Tensor): Tensor;
  mul(a: Tensor, b: Tensor): Tensor;
  matMul(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor;
  square(x: Tensor): Tensor;
  sum(x: Tensor): Tensor;
  mean(x: Tensor, axes: number | readonly number[], keepDimensions: boolean): Tensor;
  rsqrt(x: Tensor): Tensor;
  sin(x: Tensor): Tensor;
  cos(x: Tensor): Tensor;
  tanh(x: Tensor): Tensor;
  softmax(x: Tensor): Tensor;
  maximum(a: Tensor, b: Tensor): Tensor;
  readonly fused: { conv2d(layer: DenseLayer): Tensor };
}

/** Loads the library and its WebAssembly: SIMD where the machine has it, always on one thread. */
export async function loadTensorLibrary(): Promise<TensorLibrary> {
  const library = createRequire(import.meta.url)('@energetic-ai/core') as TensorLibrary;
  await library.ready();
  return library;
}
