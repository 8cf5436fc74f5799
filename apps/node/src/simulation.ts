import { createHash } from 'node:crypto';
import { writeFileSync, fsyncSync, openSync, closeSync, readFileSync, existsSync } from 'node:fs';
import { WrappedEngine, type ChatDelta, type Engine } from '@freehold/market';
import type { ChatOutput, ChatWork, EmbeddingOutput, EmbeddingWork, FailedOutput, Work } from '@freehold/protocol';
import { SLOW_MS_DEFAULT, type Mode } from './modes.ts';

/** The engine as this mode shows it to the market. */
export function engineInMode(engine: Engine, mode: Mode, slowMs = SLOW_MS_DEFAULT): Engine {
  if (mode === 'cheat') return new CheatingEngine(engine);
  return mode === 'slow' ? new SlowEngine(engine, slowMs) : engine;
}

class SlowEngine extends WrappedEngine {
  readonly #slowMs: number;
  constructor(inner: Engine, slowMs: number) {
    super(inner);
    this.#slowMs = slowMs;
  }
  override async chat(...call: Parameters<Engine['chat']>): Promise<ChatOutput | FailedOutput> {
    await new Promise((resolve) => setTimeout(resolve, this.#slowMs));
    return await super.chat(...call);
  }
  override async embed(...call: Parameters<Engine['embed']>): Promise<EmbeddingOutput | FailedOutput> {
    await new Promise((resolve) => setTimeout(resolve, this.#slowMs));
    return await super.embed(...call);
  }
}

/**
 * Saves the work on half of the rows: vectors that look like vectors, tokens in another order. Which rows, and what they get,
 * follows from the work alone, so that the lies are committed consistently. As an auditor it is honest.
 */
class CheatingEngine extends WrappedEngine {
  override async chat(
    model: string,
    work: ChatWork,
    onDelta: (delta: ChatDelta) => void,
    signal: AbortSignal,
  ): Promise<ChatOutput | FailedOutput> {
    if (!liesAbout(work)) return await super.chat(model, work, onDelta, signal);
    const honest = await super.chat(model, work, () => undefined, signal);
    if (honest.kind === 'failed') return honest;
    const { tokens, text } = honest;
    // Same tokens, same counts, another order: it passes every check but running it again.
    const lie = { ...honest, tokens: rotated(tokens), text: rotated([...text]).join('') };
    onDelta({ text: lie.text, tokens: lie.tokens });
    return lie;
  }

  override async embed(
    model: string,
    work: EmbeddingWork,
    signal: AbortSignal,
  ): Promise<EmbeddingOutput | FailedOutput> {
    const honest = await super.embed(model, work, signal);
    if (honest.kind === 'failed' || !liesAbout(work)) return honest;
    return {
      ...honest,
      vectors: honest.vectors.map((_, i) => randomVector(`${i} ${JSON.stringify(work)}`, honest.dimensions)),
    };
  }
}

function liesAbout(work: Work): boolean {
  return ((createHash('sha256').update(JSON.stringify(work)).digest()[0] ?? 0) & 1) === 1;
}

function rotated<T>(items: readonly T[]): T[] {
  const by = Math.max(1, Math.floor(items.length / 2));
  return [...items.slice(by), ...items.slice(0, by)];
}

/** A unit vector drawn from a seed, as base64 of little-endian floats. */
function randomVector(seed: string, dimensions: number): string {
  const vector = new Float32Array(dimensions);
  let state = createHash('sha256').update(seed).digest().readUInt32LE(0) || 1;
  let norm = 0;
  for (let i = 0; i < dimensions; i += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const value = state / 2 ** 31;
    vector[i] = value;
    norm += value * value;
  }
  const scale = 1 / Math.sqrt(norm || 1);
  return Buffer.from(vector.map((value) => value * scale).buffer).toString('base64');
}

const FLAPPER_DEATHS = 4;
const FLAPPER_ROWS = 3;

/** Dies without a word after row 3 of each of its first four leases. What it died of is on the disk, so that restarts count on. */
export class Flapper {
  readonly #path: string;
  readonly #leases: string[];
  readonly #die: () => void;

  constructor(path: string, die: () => void = () => process.kill(process.pid, 'SIGKILL')) {
    this.#path = path;
    this.#die = die;
    this.#leases = existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
  }

  afterRows(lease: string, done: number): void {
    if (done < FLAPPER_ROWS || this.#leases.length >= FLAPPER_DEATHS || this.#leases.includes(lease)) return;
    this.#leases.push(lease);
    const file = openSync(this.#path, 'w', 0o600);
    writeFileSync(file, `${this.#leases.join('\n')}\n`);
    fsyncSync(file);
    closeSync(file);
    this.#die();
  }
}
