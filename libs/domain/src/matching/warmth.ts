import { keepNewest } from '../newest.ts';

/**
 * Whether a model that is not loaded is loaded somewhere, or its requests wait for a slot where it is. Both sides are in seconds of
 * requests' waiting, so that they can be compared: what loading saves those who wait, and what it costs those whose model has to go.
 */

/** The requests for one model, and the slots that stand ready for them. */
export interface ModelDemand {
  /** Requests that come in a second. */
  readonly perSecond: number;
  /** Seconds that one holds a slot. */
  readonly serviceS: number;
  /** Requests that wait for a slot now. */
  readonly waiting: number;
  /** Slots of the nodes that have it loaded or are loading it. Those of a node with several models count whole for each of them. */
  readonly slots: number;
  /** Whether a node is loading it now for those who ask. */
  readonly isLoading: boolean;
  /** Seconds until it answers on a node that does not have it. */
  readonly loadS: number;
}

/** A model that is asked for less often than once in this time is no loss. */
export const WANTED_AGAIN_S = 600;
/** A warm-wait ends after so many times what loading takes, whoever has to go: nobody waits for a slot for ever. */
export const WARM_WAIT_LOADS_MAX = 3;
/** With so little time left in loads, there is none to wait in. */
const DEADLINE_LOADS = 2;
/** Of more slots than this all are busy that are wanted: chance evens out. */
const SLOTS_MAX = 512;

/**
 * Slots that are busy on average when requests that would keep `wanted` busy find so many: Erlang's formula for calls that come at
 * random. At most `slots`, and as good as `wanted` when there are plenty.
 */
export function carriedSlots(wanted: number, slots: number): number {
  const lines = Math.floor(slots);
  if (!(wanted > 0) || lines <= 0) return 0;
  if (lines > SLOTS_MAX) return Math.min(wanted, lines);
  let blocked = 1;
  for (let line = 1; line <= lines; line += 1) blocked = (wanted * blocked) / (line + wanted * blocked);
  return wanted * (1 - blocked);
}

/**
 * Seconds of waiting that it costs to drive a model out of a node with `slotsHere` of its slots: the requests that the other nodes
 * have no slot for until it is loaded again, each waiting that long; and the next one of all, where no other node has it.
 */
export function evictSeconds(model: ModelDemand, slotsHere: number): number {
  const { perSecond, serviceS, waiting, slots, loadS } = model;
  const left = Math.max(0, slots - slotsHere);
  const wanted = perSecond * serviceS;
  const busyLess =
    slots > SLOTS_MAX
      ? Math.min(wanted, slots) - Math.min(wanted, left)
      : carriedSlots(wanted, slots) - carriedSlots(wanted, left);
  const displaced = serviceS > 0 ? (Math.max(0, busyLess) / serviceS) * loadS : 0;
  const next = left < 1 ? Math.min(1, perSecond * WANTED_AGAIN_S) : 0;
  const inLine = slots > 0 ? waiting * Math.min(1, slotsHere / slots) : waiting;
  return (displaced + next + inLine) * loadS;
}

/**
 * Seconds of waiting that loading a model on one more node with `slotsThere` slots saves those who wait now; 0 where a slot comes
 * free sooner than it is loaded. Infinite, whatever has to go for it, where nobody has it loaded, where it was waited for through
 * {@link WARM_WAIT_LOADS_MAX} loads, and where its deadline is too near to wait and no load is under way.
 */
export function loadGainSeconds(model: ModelDemand, slotsThere: number, waitedS: number, leftS: number): number {
  const { serviceS, waiting, slots, loadS, isLoading } = model;
  if (waiting <= 0) return 0;
  if (slots < 1) return Number.POSITIVE_INFINITY;
  if (waitedS >= WARM_WAIT_LOADS_MAX * loadS) return Number.POSITIVE_INFINITY;
  if (!isLoading && leftS <= DEADLINE_LOADS * loadS) return Number.POSITIVE_INFINITY;
  const served = Math.min(waiting, Math.max(1, slotsThere));
  // The last in line are those who would be served there: the k-th waits until k slots came free.
  const waitS = ((waiting - (served - 1) / 2) * serviceS) / slots;
  return served * Math.max(0, waitS - loadS);
}

/** A slot that stands idle has a name on it: what `explain` says of work that waits for a loaded model beside a free node. */
export interface WarmWait {
  readonly model: string;
  /** Seconds until a slot comes free where it is loaded. */
  readonly expectedS: number;
  /** Seconds from now until it is loaded elsewhere, whatever has to go for it. */
  readonly expiresInS: number;
}

export function warmWaitOf(name: string, model: ModelDemand, waitedS: number): WarmWait {
  const { serviceS, slots, loadS } = model;
  return {
    model: name,
    expectedS: slots < 1 ? 0 : serviceS / slots,
    expiresInS: slots < 1 ? 0 : Math.max(0, WARM_WAIT_LOADS_MAX * loadS - waitedS),
  };
}

/** Two prices within a factor of two are one: demand changes with every request, and what is kept by price must not. */
export function coarseSeconds(seconds: number): number {
  if (!(seconds > 0)) return 0;
  return seconds === Number.POSITIVE_INFINITY ? seconds : 2 ** Math.round(Math.log2(seconds));
}

/** How often each model is asked for, the last minutes counting most. Times on one clock, whichever it is. */
export class DemandMeter {
  readonly #meters = new Map<string, { count: number; sinceS: number; atS: number }>();

  note(model: string, nowS: number, requests = 1): void {
    const meter = this.#meters.get(model) ?? { count: 0, sinceS: nowS, atS: nowS };
    meter.count = meter.count * fading(nowS - meter.atS) + requests;
    meter.atS = nowS;
    keepNewest(this.#meters, model, meter, MODELS_MAX);
  }

  perSecond(model: string, nowS: number): number {
    const meter = this.#meters.get(model);
    if (meter === undefined) return 0;
    // What was not yet there to be counted counts as it does since.
    const seenS = METER_S * (1 - fading(Math.max(1, nowS - meter.sinceS)));
    return (meter.count * fading(nowS - meter.atS)) / seenS;
  }
}

/** Long beside the noise of arrivals, short beside a change of what is asked for. */
const METER_S = 120;
/** A market names a few hundred models. */
const MODELS_MAX = 1_024;

function fading(passedS: number): number {
  return Math.exp(-Math.max(0, passedS) / METER_S);
}
