import type { Rates } from '../units/units.ts';
import type { Ask, Candidate } from './ask.ts';
import { ratesFor } from './constraints.ts';
import type { FragmentationGauge } from './fragmentation.ts';
import type { Packing } from './packing.ts';
import { modelTerms, servedModel, sumOf } from './served-model.ts';

/**
 * What it costs to run one unit of work (a typical row, or a second of the GPUs asked for) on a node. Every term is in
 * millionths of the smallest token unit, so that they can be added and a person can argue with each.
 */
export interface ScoreTerms {
  /** The node's rates over the unit of work. */
  readonly price: number;
  /** The part of the time left that loading the model eats, times what the work is worth to the requester. */
  readonly coldStart: number;
  /** What loading the model makes others wait, who lose theirs for it, as a part of the time left and as if it were this work. */
  readonly eviction: number;
  /** The part of the time left that the node's measured speed eats, times what the work is worth. */
  readonly slowness: number;
  /** The chance that the work is lost or voided, times what is spent by then. */
  readonly unreliability: number;
  /**
   * Prompt tokens the node need not compute again, at one each: charges do not count what was computed before, so it may decide
   * between nodes that cost the same, and never make anybody pay more. Never positive.
   */
  readonly locality: number;
}

/** All that does not depend on what is free. */
export function scoreTerms(ask: Ask, node: Candidate, cachedTokens = ask.cachedOn?.get(node.nodeId) ?? 0): ScoreTerms {
  const rates = ratesFor(ask, node);
  const terms = modelTerms(ask, rates, node.reputation, servedModel(ask, node));
  return { ...terms, locality: cachedTokens > 0 && savedByCache(rates) > 0 ? -cachedTokens : 0 };
}

/**
 * What a token of prompt costs less, per million, where it was computed before: by that a node says that it keeps beginnings of
 * prompts. 0 where it does not.
 */
export function savedByCache({ inputToken = 0n, cachedInputToken = inputToken }: Rates): number {
  return Math.max(0, Number(inputToken - cachedInputToken));
}

export function totalOf(terms: ScoreTerms): number {
  return sumOf(terms) + terms.locality;
}

/** Every lease that a node holds puts it behind all nodes that hold fewer: rows spread, deaths cost less. */
export const LOAD_STEP = 2 ** 40;

/** What placing an ask on a node costs, all in all. The least wins. */
export function costOf(fixed: number, leasesActive: number, strandedMilli: number, economy: FleetEconomy): number {
  return fixed + leasesActive * (economy.leaseCost ?? LOAD_STEP) + strandedMilli * economy.strandedMilliCost;
}

/** The work that the market sees, and what a lost thousandth of a GPU costs. */
export interface FleetEconomy {
  readonly gauge: FragmentationGauge;
  readonly packing: Packing;
  /** Millionths of the smallest token unit per thousandth of a GPU that typical work can use no more. */
  readonly strandedMilliCost: number;
  /** What each lease that a node holds costs the next one, in the same unit; without it rows spread before anything else counts. */
  readonly leaseCost?: number;
}

/**
 * Weight of the packing value beside the fragment, and the grain in which both are compared. Differences below the grain are
 * noise of the mix: there the fullest node wins. Both were chosen on the openb traces (`npm run bench -- openb`).
 */
const PACKING_WEIGHT = 5;
const GRAIN_MILLI = 60;
/** Makes the fullest node win within a grain; 64 GPUs of free milli weigh less than one grain. */
const FREE_MILLI_WEIGHT = 0.0005;

/** Where on a node work would go and what that strands, in GPU milli. `at` is a position among its free milli, ascending. */
export interface Seat {
  at: number;
  strandedMilli: number;
}

/**
 * Finds the GPUs of one node where work strands the least. `free` is sorted ascending. Work on part of a GPU takes the best
 * one; on several, the fullest that hold it. Returns false when it does not fit.
 */
export function seatOn(
  economy: FleetEconomy,
  needs: { readonly gpus: number; readonly gpuMilli: number; readonly cpuMilli: number; readonly memoryMib: number },
  node: { readonly modelBit: number; readonly cpuMilli: number; readonly memoryMib: number; readonly gpus: number },
  free: ArrayLike<number>,
  from: number,
  seat: Seat,
): boolean {
  const { gauge, packing } = economy;
  if (needs.gpus === 0 && needs.cpuMilli === 0 && needs.memoryMib === 0) {
    seat.at = 0;
    seat.strandedMilli = 0;
    return true;
  }
  const cpu = node.cpuMilli - needs.cpuMilli;
  const memory = node.memoryMib - needs.memoryMib;
  const end = from + node.gpus;
  let first = from;
  let total = 0;
  for (let i = from; i < end; i += 1) {
    const here = free[i] ?? 0;
    total += here;
    if (here < needs.gpuMilli) first = i + 1;
  }
  if (cpu < 0 || memory < 0 || end - first < needs.gpus) return false;
  const before = gauge.weigh(node.modelBit, node.cpuMilli, node.memoryMib, free, from, node.gpus);
  let least = Number.POSITIVE_INFINITY;
  let last = -1;
  // Several GPUs are judged by the fullest of them: they are mostly whole ones, and those are alike.
  const tries = needs.gpus === 1 ? end : first + 1;
  for (let i = first; i < tries; i += 1) {
    const here = needs.gpus === 0 ? 0 : (free[i] ?? 0);
    if (here === last) continue;
    last = here;
    let stranded = gauge.after(cpu, memory, needs.gpus, here, needs.gpus === 0 ? 0 : needs.gpuMilli) - before;
    if (needs.gpus > 0 && needs.gpuMilli < 1_000)
      stranded +=
        PACKING_WEIGHT * needs.gpus * ((packing.valueOf[here] ?? 0) - (packing.valueOf[here - needs.gpuMilli] ?? 0));
    if (stranded < least) {
      least = stranded;
      seat.at = i - from;
    }
  }
  const left = total - needs.gpus * needs.gpuMilli;
  seat.strandedMilli = GRAIN_MILLI * Math.ceil(least / GRAIN_MILLI) + FREE_MILLI_WEIGHT * left;
  return true;
}
