/**
 * Writes WebAssembly modules, just enough for number loops: an expression or statement is the bytes that compute it.
 *
 * The module is made anew at every start from the kernels beside this file, so no compiled blob can be out of date.
 */
export type Code = readonly number[];

export const I32 = 0x7f;
export const F32 = 0x7d;
export const V128 = 0x7b;
export type ValueType = typeof I32 | typeof F32 | typeof V128;

export interface Local {
  readonly index: number;
  readonly type: ValueType;
}

const SIMD = 0xfd;
/** An empty block type. */
const VOID = 0x40;

/** LEB128, unsigned. */
export function unsigned(value: number): number[] {
  const out: number[] = [];
  let rest = value;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    out.push(rest > 0 ? low | 0x80 : low);
  } while (rest > 0);
  return out;
}

/** LEB128, signed 32 bits. */
function signed(value: number): number[] {
  const out: number[] = [];
  let rest = value;
  for (;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    const done = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0);
    out.push(done ? low : low | 0x80);
    if (done) return out;
  }
}

const memory = (alignLog2: number, offset: number): number[] => [alignLog2, ...unsigned(offset)];
const simd = (op: number): number[] => [SIMD, ...unsigned(op)];
const float = (value: number): number[] => [...new Uint8Array(new Float32Array([value]).buffer)];

export const get = (local: Local): Code => [0x20, ...unsigned(local.index)];
export const set = (local: Local, value: Code): Code => [...value, 0x21, ...unsigned(local.index)];
export const int = (value: number): Code => [0x41, ...signed(value)];
export const add = (a: Code, b: Code): Code => [...a, ...b, 0x6a];
export const sub = (a: Code, b: Code): Code => [...a, ...b, 0x6b];
export const mul = (a: Code, b: Code): Code => [...a, ...b, 0x6c];
/** a < b of unsigned 32-bit numbers. */
export const less = (a: Code, b: Code): Code => [...a, ...b, 0x49];
export const and = (a: Code, b: Code): Code => [...a, ...b, 0x71];

export const f32 = {
  zero: [0x43, ...float(0)] as Code,
  load: (at: Code, offset = 0): Code => [...at, 0x2a, ...memory(2, offset)],
  store: (at: Code, value: Code, offset = 0): Code => [...at, ...value, 0x38, ...memory(2, offset)],
  add: (a: Code, b: Code): Code => [...a, ...b, 0x92],
  mul: (a: Code, b: Code): Code => [...a, ...b, 0x94],
} as const;

/** Four F32 side by side. Only operations that IEEE 754 fixes to the last bit: no fused or relaxed ones. */
export const f32x4 = {
  zero: [...simd(0x0c), ...Array.from({ length: 16 }, () => 0)] as Code,
  load: (at: Code, offset = 0): Code => [...at, ...simd(0x00), ...memory(2, offset)],
  /** One number in all four places. */
  splatLoad: (at: Code, offset = 0): Code => [...at, ...simd(0x09), ...memory(2, offset)],
  store: (at: Code, value: Code, offset = 0): Code => [...at, ...value, ...simd(0x0b), ...memory(2, offset)],
  add: (a: Code, b: Code): Code => [...a, ...b, ...simd(0xe4)],
  sub: (a: Code, b: Code): Code => [...a, ...b, ...simd(0xe5)],
  mul: (a: Code, b: Code): Code => [...a, ...b, ...simd(0xe6)],
  div: (a: Code, b: Code): Code => [...a, ...b, ...simd(0xe7)],
  min: (a: Code, b: Code): Code => [...a, ...b, ...simd(0xe8)],
  max: (a: Code, b: Code): Code => [...a, ...b, ...simd(0xe9)],
  /** To the nearest whole number, halves to the even one. */
  nearest: (a: Code): Code => [...a, ...simd(0x6a)],
  constant: (value: number): Code => [...simd(0x0c), ...Array.from({ length: 4 }, () => float(value)).flat()],
  /** 2^k of whole numbers k, by writing k into the exponent. */
  powerOfTwo: (k: Code): Code => [
    ...[...k, ...simd(0xf8)],
    ...[...simd(0x0c), ...Array.from({ length: 4 }, () => [127, 0, 0, 0]).flat(), ...simd(0xae)],
    ...[...int(23), ...simd(0xab)],
  ],
} as const;

/** Repeats `body` while `condition` holds. */
export const whileLoop = (condition: Code, body: Code): Code => [
  ...[0x02, VOID, 0x03, VOID],
  ...[...condition, 0x45, 0x0d, 1],
  ...[...body, 0x0c, 0],
  ...[0x0b, 0x0b],
];

export const ifElse = (condition: Code, then: Code, otherwise: Code = []): Code => [
  ...[...condition, 0x04, VOID, ...then],
  ...(otherwise.length > 0 ? [0x05, ...otherwise] : []),
  0x0b,
];

/** One function under construction: its parameters are I32, all else are locals. */
export class FunctionBuilder {
  readonly #params: number;
  readonly #locals: ValueType[] = [];
  #body: number[] = [];

  constructor(params: number) {
    this.#params = params;
  }

  param(index: number): Local {
    return { index, type: I32 };
  }

  local(type: ValueType): Local {
    this.#locals.push(type);
    return { index: this.#params + this.#locals.length - 1, type };
  }

  emit(...code: readonly Code[]): void {
    for (const each of code) for (const byte of each) this.#body.push(byte);
  }

  get params(): number {
    return this.#params;
  }

  bytes(): number[] {
    const locals = this.#locals.flatMap((type) => [1, type]);
    const content = [...unsigned(this.#locals.length), ...locals, ...this.#body, 0x0b];
    return [...unsigned(content.length), ...content];
  }
}

const section = (id: number, content: readonly number[]): number[] => [id, ...unsigned(content.length), ...content];
const list = (items: readonly (readonly number[])[]): number[] => [...unsigned(items.length), ...items.flat()];
const text = (value: string): number[] => [...unsigned(value.length), ...Buffer.from(value, 'latin1')];

/** A module that imports its memory as `env.memory` and exports the functions by name. */
export function moduleBytes(functions: Readonly<Record<string, FunctionBuilder>>): Uint8Array<ArrayBuffer> {
  const entries = Object.entries(functions);
  const types = entries.map(([, f]) => [
    0x60,
    ...unsigned(f.params),
    ...Array.from({ length: f.params }, () => I32),
    0,
  ]);
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, list(types)),
    ...section(2, list([[...text('env'), ...text('memory'), 0x02, 0x00, 0x01]])),
    ...section(3, list(entries.map((_, i) => unsigned(i)))),
    ...section(7, list(entries.map(([name], i) => [...text(name), 0x00, ...unsigned(i)]))),
    ...section(10, list(entries.map(([, f]) => f.bytes()))),
  ]);
}
