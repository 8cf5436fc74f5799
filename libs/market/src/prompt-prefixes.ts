import { PROMPT_BLOCK_TOKENS, promptBlocks } from '@freehold/domain';
import type { ChatMessage, RequestWork } from '@freehold/protocol';
import type { Entropy, MonotonicClock } from './ports/surroundings.ts';

/** Engines drive out what nobody asked for in a while; a conversation that rests for longer begins anew somewhere. */
const HELD_MS = 600_000;
/** Blocks known at once, of all organisations and of one: about 30 MB, and half of it. */
const BLOCKS_MAX = 131_072;
const ORG_BLOCKS_MAX = 65_536;
/** Nodes known for a block: those that computed it last. */
const HOLDERS_MAX = 4;
const SALT_BYTES = 32;

interface Holder {
  readonly nodeId: string;
  readonly untilMs: number;
}

/**
 * Which nodes computed which beginnings of prompts a moment ago: what is left of them in an engine's memory need not be computed again.
 *
 * A hint, and never the truth: an engine says nothing of what it drove out. It is kept by this process alone, for minutes, and by
 * organisation: names of blocks are made with its id and a salt that leaves this process in no way, so that no requester can learn from
 * the time that an answer takes, or from where it comes, what another one asked.
 */
export class PromptPrefixes {
  readonly #clock: MonotonicClock;
  readonly #salt: Uint8Array;
  /** By organisation, the one that asked last at the end; there by block, likewise. */
  readonly #held = new Map<string, Map<string, readonly Holder[]>>();
  #count = 0;

  constructor(clock: MonotonicClock, entropy: Entropy) {
    this.#clock = clock;
    this.#salt = entropy.bytes(SALT_BYTES);
  }

  /** Blocks known now. */
  get size(): number {
    return this.#count;
  }

  /** Tokens of this prompt's beginning that nodes have computed for this organisation, by node. */
  tokensOn(orgId: string, model: string, work: RequestWork): ReadonlyMap<string, number> {
    if (!this.#held.has(orgId)) return NONE;
    const blocks = this.#blocksOf(orgId, model, work, null);
    return new Map([...this.holding(orgId, blocks)].map(([nodeId, count]) => [nodeId, count * PROMPT_BLOCK_TOKENS]));
  }

  /** A node has computed the prompt and its answer. */
  answered(orgId: string, model: string, work: RequestWork, answer: string, nodeId: string): void {
    this.note(orgId, this.#blocksOf(orgId, model, work, answer), nodeId);
  }

  /**
   * How many of these blocks, from the first one on, each node holds. A block stands for all before it: who holds it computed those as
   * well, also where many others did so since, as with the instructions that all conversations of an application begin with.
   */
  holding(orgId: string, blocks: readonly string[]): ReadonlyMap<string, number> {
    const known = this.#held.get(orgId);
    const counts = new Map<string, number>();
    const nowMs = this.#clock.nowMs();
    for (const [at, block] of blocks.entries()) {
      const holders = (known?.get(block) ?? []).filter(({ untilMs }) => untilMs > nowMs);
      if (holders.length === 0) break;
      for (const { nodeId } of holders) counts.set(nodeId, at + 1);
    }
    return counts;
  }

  note(orgId: string, blocks: readonly string[], nodeId: string): void {
    if (blocks.length === 0) return;
    const nowMs = this.#clock.nowMs();
    const known = this.#held.get(orgId) ?? new Map<string, readonly Holder[]>();
    this.#held.delete(orgId);
    this.#held.set(orgId, known);
    const untilMs = nowMs + HELD_MS;
    // The first block last: what is forgotten for want of room is the end of a prompt, not its beginning.
    for (const block of blocks.toReversed()) {
      const others = (known.get(block) ?? []).filter((one) => one.nodeId !== nodeId && one.untilMs > nowMs);
      this.#count += known.delete(block) ? 0 : 1;
      known.set(block, [{ nodeId, untilMs }, ...others].slice(0, HOLDERS_MAX));
    }
    this.#forget(known, (holders) => known.size > ORG_BLOCKS_MAX || holders.every((one) => one.untilMs <= nowMs));
    for (const [org, oldest] of this.#held) {
      this.#forget(oldest, (holders) => this.#count > BLOCKS_MAX || holders.every((one) => one.untilMs <= nowMs));
      if (oldest.size === 0) this.#held.delete(org);
      else break;
    }
  }

  /** From the oldest on, as long as there is a reason. */
  #forget(known: Map<string, readonly Holder[]>, isToGo: (holders: readonly Holder[]) => boolean): void {
    for (const [block, holders] of known) {
      if (!isToGo(holders)) return;
      known.delete(block);
      this.#count -= 1;
    }
  }

  #blocksOf(orgId: string, model: string, work: RequestWork, answer: string | null): readonly string[] {
    if (work.kind !== 'chat') return [];
    const said: ChatMessage[] = answer === null ? [] : [{ role: 'assistant', content: answer }];
    return promptBlocks(this.#salt, [orgId, model, work.adapter ?? ''], promptParts([...work.messages, ...said]));
  }
}

/** A conversation as {@link promptBlocks} takes it. */
export function promptParts(messages: readonly ChatMessage[]): readonly string[] {
  return messages.flatMap(({ role, content }) => [role, content]);
}

const NONE: ReadonlyMap<string, number> = new Map();
