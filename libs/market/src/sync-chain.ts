import type { ChainBlock, ChainHistory } from './ports/chain-store.ts';
import type { ChainHead, Escrow } from './ports/escrow.ts';

export interface SyncChainPorts {
  readonly escrow: Pick<Escrow, 'head' | 'hashOf' | 'events'>;
  readonly history: Pick<ChainHistory, 'blocks' | 'absorb'>;
  /** First block worth reading: where the escrow was deployed. */
  readonly fromBlock: bigint;
  /** Blocks that are read only when so many stand on them; 0 reads up to the head and lets reorganisations be undone. */
  readonly depth: bigint;
  /**
   * Asked before everything that was ever read would be undone: throws when the endpoint serves another chain. A chain that was
   * started anew has none of our blocks either, and nothing on it says that our money never moved.
   */
  readonly sameChain?: () => Promise<void>;
}

/** Blocks of one step: a request that every RPC endpoint answers, and a transaction that stays short. */
const STEP_BLOCKS = 2_000n;
/** How many remembered blocks are looked through for the fork: more than any reorganisation of a chain worth using. */
const REMEMBERED_MAX = 1_000;

export interface Synced {
  readonly applied: number;
  readonly undone: number;
  /** The last block whose events are in the ledger; null before the first. */
  readonly at: bigint | null;
  /** The end of the chain when it was looked at. */
  readonly head: ChainHead;
}

/**
 * Reads what happened to our book since the last time, undoing first what the chain took back.
 *
 * May run twice, late, or at once with itself: a step is refused unless it starts where the last one ended.
 */
export async function syncChain(ports: SyncChainPorts): Promise<Synced> {
  const total = { applied: 0, undone: 0 };
  for (;;) {
    const step = await syncStep(ports);
    total.applied += step.applied;
    total.undone += step.undone;
    if (!step.more) return { ...total, at: step.at, head: step.head };
  }
}

async function syncStep(ports: SyncChainPorts): Promise<Synced & { readonly more: boolean }> {
  const head = await ports.escrow.head();
  const last = (await ports.history.blocks(1))[0] ?? null;
  const fork = await forkOf(ports, last);
  const end = head.number - ports.depth;
  const nothing = { applied: 0, undone: 0, at: last?.number ?? null, head, more: false };
  const isForked = fork !== null && last !== null && fork !== last.number;
  const from = (fork ?? ports.fromBlock - 1n) + 1n;
  // A chain that became shorter is read up to its end, which may be nothing new.
  if (from > end && !isForked) return nothing;
  const to = from > end ? (fork ?? 0n) : min(end, from + STEP_BLOCKS - 1n);
  // A block's hash stands for all blocks below it: the same before and after means that all events are of one chain. Read only
  // afterwards, it would vouch for events of a chain that is gone, and nobody would ever undo them.
  const hash = await ports.escrow.hashOf(to);
  const events = from > to ? [] : await ports.escrow.events(from, to);
  // The chain changed while we read: look again at the next turn.
  if (hash === null || (await ports.escrow.hashOf(to)) !== hash) return nothing;
  // Nor may the block that we started from have gone since we looked: what lies below it would never be read again.
  if ((await forkOf(ports, last)) !== fork) return nothing;
  if (events.some((event) => event.blockNumber === to && event.blockHash !== hash)) return nothing;
  const step = { from: last, forkedAt: isForked ? fork : null, events, to: { number: to, hash } };
  const { absorbed, applied, undone } = await ports.history.absorb(step);
  if (!absorbed) return { ...nothing, more: false };
  return { applied, undone, at: to, head, more: to < end };
}

/** The newest remembered block that is still on the chain; one below the first when none is; null when nothing is remembered. */
async function forkOf(ports: SyncChainPorts, last: ChainBlock | null): Promise<bigint | null> {
  if (last === null) return null;
  if ((await ports.escrow.hashOf(last.number)) === last.hash) return last.number;
  for (const block of await ports.history.blocks(REMEMBERED_MAX)) {
    if ((await ports.escrow.hashOf(block.number)) === block.hash) return block.number;
  }
  await ports.sameChain?.();
  return ports.fromBlock - 1n;
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
