/**
 * A trace of requests against the market: how busy its slots are (G8), what the same work costs on nodes that come and go
 * beside nodes that are always on (G11), and how much of the prompts' beginnings is found where it was computed, and what
 * the slowest hundredth of requests waits where not every model is loaded everywhere (G12).
 *
 *   npm run bench -- replay [--trace FILE] [--seeds N] [--spot-price PART]
 *
 * Without --trace: the Azure conversations for G8 and G11, Mooncake's for G12. A trace with `hash_ids` measures G12 as well.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { LEASES_AHEAD, LOAD_STEP } from '@freehold/domain';
import {
  loadOfTrace,
  playSlotMarket,
  PrefixCache,
  readRequests,
  replayColdStarts,
  SLOTS,
  withBursts,
  withModels,
} from '@freehold/testing/placement';
import { at } from '../../scripts/launcher/paths.mjs';
import { spentMetrics, spentText, stopwatch } from './house/processor-time.mjs';
import { mean, rounded } from './placement/measure.mjs';
import { replayStreams } from './placement/replay-streams.mjs';

/**
 * @import { Churn, ColdStartsSetting, ModelRequest, PrefixCaches, TraceRequest } from '@freehold/testing/placement'
 */
/** @typedef {(text: string) => void} Say */

const AZURE = at('../shared/data/azure-llm-2023/AzureLLMInferenceTrace_conv.csv.gz');
const MOONCAKE = at('../shared/data/mooncake/conversation_trace.jsonl.gz');
/** One slot of a usual GPU with a model of 8 billion parameters. */
const PREFILL_PER_S = 4_000;
const DECODE_PER_S = 40;
const NODES = 64;
/** As large as a fleet is tried that is to be as small as can be. */
const NODES_MAX = 4 * NODES;
const CHURN = { upS: 3_600, downS: 300 };
/** A wait that nobody complains about; fleets are as large as this needs. */
const WAIT_P99_S = 5;
const CACHE_BLOCKS = 2_000;
const TOKENS_PER_BLOCK = 512;
const CACHE_NODES = 24;
/** A request beside another slows both: as much as so many tokens of prompt computed again. */
const LEASE_COST_TOKENS = 200;
/** A market of a dozen models, each node holding two, a few GiB from a disk. */
const MODELS = { models: 12, perNode: 2, loadS: 20 };
const MODEL_NODES = 24;
const MODEL_REQUESTS = 3_000;
/** Without prices models drive each other out at once: so many show it. */
const UNPRICED_REQUESTS = 500;
/** Now and then a batch comes for one model, while half of the fleet is busy. */
const BURSTS = { everyS: 60, size: 60, serviceS: 7, models: 12 };
const BURSTS_BESIDE = 0.5;
const MODELS_OFFERED = 0.8;
/** What loading models by demand may cost the slowest hundredth, where they stand right from the start. */
const COLD_WAIT_MORE_S = 0.1;
const FLOOR = { utilisation: 0.89, costRatio: 0.7, prefixHitRatio: 0.85, streamPrefixHitRatio: 0.85 };
const TARGET = { utilisation: 0.93, costRatio: 0.57, prefixHitRatio: 0.95, streamPrefixHitRatio: 0.95 };

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ args = [], json = false } = {}) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      trace: { type: 'string' },
      seeds: { type: 'string', default: '3' },
      // Published spot prices of GPUs lie between 8 % and 50 % of those on demand: the dearest.
      'spot-price': { type: 'string', default: '0.5' },
    },
  });
  const [seeds, spotPrice] = [Number(values.seeds), Number(values['spot-price'])];
  if (!Number.isInteger(seeds) || seeds < 1 || seeds > 100)
    throw new Error('--seeds: expected a whole number from 1 to 100.');
  if (!(spotPrice > 0 && spotPrice <= 1))
    throw new Error('--spot-price: expected a part of the price of nodes that are always on, as 0.5.');
  const files = values.trace === undefined ? [AZURE, MOONCAKE] : [resolve(values.trace)];
  const missing = files.find((file) => !existsSync(file));
  if (missing !== undefined) {
    if (values.trace !== undefined) throw new Error(`${missing} is not there.`);
    return { metrics: { skipped: 'no ../shared/data' }, pass: true };
  }
  /** @type {Say} */
  const say = json ? () => undefined : console.log;
  const [first, last] = [readRequests(files[0]), readRequests(files[files.length - 1])];
  const refused = files.length > 1 ? [...first.refused, ...last.refused] : first.refused;
  for (const { line, why } of refused.slice(0, 5)) say(`  line ${line} left out: ${why}`);
  const spent = stopwatch();
  /**
   * @template T
   * @param {string} what
   * @param {() => T | Promise<T>} work
   */
  const timed = async (what, work) => {
    const used = stopwatch();
    const found = await work();
    say(`  ${what}: ${spentText(used())}`);
    return found;
  };
  const metrics = {
    ...(await timed('how busy', () => busy(first.rows, seeds, say))),
    ...(await timed('cost', () => cost(first.rows, seeds, spotPrice, say))),
    ...(await timed('prefixes', () => prefixes(last.rows, say))),
    ...(await timed('cold starts', () => coldStarts(first.rows, say))),
    requests: first.rows.length,
    rowsRefused: refused.length,
    seeds,
    ...spentMetrics(spent()),
  };
  const pass =
    metrics.utilisation >= FLOOR.utilisation &&
    metrics.utilisationAt95 >= FLOOR.utilisation &&
    (typeof metrics.costRatio !== 'number' || metrics.costRatio <= FLOOR.costRatio) &&
    (typeof metrics.prefixHitRatio !== 'number' || metrics.prefixHitRatio >= FLOOR.prefixHitRatio) &&
    (metrics.streamPrefixHitRatio === undefined || metrics.streamPrefixHitRatio >= FLOOR.streamPrefixHitRatio) &&
    metrics.coldStartWaitP99S <= metrics.warmOnlyWaitP99S + COLD_WAIT_MORE_S &&
    metrics.burstWaitP99S <= metrics.burstWarmOnlyWaitP99S + MODELS.loadS;
  return { metrics, floor: FLOOR, target: TARGET, pass };
}

/** @param {Pick<TraceRequest, 'prompt' | 'output'>} request */
const serviceS = ({ prompt, output }) => prompt / PREFILL_PER_S + Math.max(1, output) / DECODE_PER_S;

/**
 * The trace laid over itself until it asks for so much of the part of the fleet that is up.
 *
 * @param {readonly TraceRequest[]} requests
 * @param {number} offered
 * @param {number} nodes
 */
function loaded(requests, offered, nodes, slots = SLOTS) {
  return loadOfTrace(served(requests), (offered * nodes * slots * CHURN.upS) / (CHURN.upS + CHURN.downS));
}

/** @param {readonly TraceRequest[]} requests */
const served = (requests) => requests.map((one) => ({ ...one, serviceS: serviceS(one) }));

/**
 * G8: both loads that PLACEMENT.md names. Nodes die once an hour and stay away for five minutes.
 *
 * @param {readonly TraceRequest[]} requests
 * @param {number} seeds
 * @param {Say} say
 */
function busy(requests, seeds, say) {
  const at = (/** @type {number} */ offered) => {
    const work = loaded(requests, offered, NODES);
    const runs = Array.from({ length: seeds }, (_, i) =>
      playSlotMarket({ work, nodes: NODES, churn: CHURN, seed: i + 1 }),
    );
    say(`  offered ${offered}: ${runs.map(({ utilisation }) => (100 * utilisation).toFixed(2)).join(' ')} % busy`);
    return rounded(mean(runs.map(({ utilisation }) => utilisation)), 4);
  };
  return { utilisation: at(1.05), offered: 1.05, utilisationAt95: at(0.95), nodes: NODES, slotsPerNode: SLOTS };
}

/**
 * G11: the smallest fleet of each kind that keeps the wait short, paid for every second that it is up.
 *
 * @param {readonly TraceRequest[]} requests
 * @param {number} seeds
 * @param {number} spotPrice
 * @param {Say} say
 */
function cost(requests, seeds, spotPrice, say) {
  const work = loaded(requests, 0.8, NODES);
  const fleet = (/** @type {Churn | null} */ churn, /** @type {number} */ seed) => {
    let [low, high] = [1, NODES_MAX];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (playSlotMarket({ work, nodes: middle, churn, seed }).waitP99S <= WAIT_P99_S) high = middle;
      else low = middle + 1;
    }
    return { nodes: low, ...playSlotMarket({ work, nodes: low, churn, seed }) };
  };
  const reserved = fleet(null, 1);
  const spot = Array.from({ length: seeds }, (_, i) => fleet(CHURN, i + 1));
  const fleets = [reserved, ...spot];
  if (fleets.some(({ waitP99S }) => waitP99S > WAIT_P99_S))
    return { costRatio: `skipped: no ${NODES_MAX} nodes keep the p99 of the wait below ${WAIT_P99_S} s` };
  const ratio = mean(spot.map(({ upSeconds }) => upSeconds / reserved.upSeconds));
  say(
    `  always on: ${reserved.nodes} nodes; coming and going: ${spot.map(({ nodes }) => nodes).join(' ')} nodes, of which ${rounded(CHURN.upS / (CHURN.upS + CHURN.downS), 2)} are up`,
  );
  return {
    costRatio: rounded(ratio * spotPrice, 3),
    spotPrice,
    // What of it is no assumption, and up to which price of a node that may go the target is kept.
    nodeSecondsRatio: rounded(ratio, 3),
    spotPriceMaxForTarget: Math.floor((1_000 * TARGET.costRatio) / ratio) / 1_000,
    reservedNodes: reserved.nodes,
    spotNodes: rounded(mean(spot.map(({ nodes }) => nodes)), 1),
  };
}

/**
 * G12: beside a router that sees one cache as large as all of them together, and so loses nothing to where things are.
 *
 * @param {readonly TraceRequest[]} requests
 * @param {Say} say
 */
function prefixes(requests, say) {
  if (requests.every(({ blocks }) => blocks === null)) return { prefixHitRatio: 'skipped: no hash_ids in this trace' };
  /** @type {PrefixCaches<TraceRequest>} */
  const caches = {
    blocks: CACHE_BLOCKS,
    tokensPerBlock: TOKENS_PER_BLOCK,
    serviceS: (hits, one) => serviceS({ ...one, prompt: Math.max(0, one.prompt - hits * TOKENS_PER_BLOCK) }),
  };
  const market = { work: served(requests), nodes: CACHE_NODES, caches };
  const own = playSlotMarket({ ...market, leaseCost: LEASE_COST_TOKENS });
  const batches = playSlotMarket(market);
  const whole = new PrefixCache(CACHE_BLOCKS * CACHE_NODES);
  let most = 0;
  let all = 0;
  for (const { blocks } of requests) {
    most += whole.prefix(blocks ?? []);
    all += blocks?.length ?? 0;
    whole.use(blocks ?? []);
  }
  if (most === 0) return { prefixHitRatio: 'skipped: no prompt of this trace begins like another' };
  say(
    `  prefix blocks: ${own.hitBlocks} found of ${most} that could be, of ${all} in all; ${batches.hitBlocks} with the batch road's cost of a lease`,
  );
  const streams = replayStreams({ work: requests, nodes: CACHE_NODES, caches });
  const blind = replayStreams({ work: requests, nodes: CACHE_NODES, caches, isKnown: false });
  say(
    `  by the stream road's rule, from what it chose itself: ${streams.hitBlocks}; ${blind.hitBlocks} where it knows of no prompt; ${streams.crowded} requests came to a full node`,
  );
  return {
    prefixHitRatio: rounded(own.hitBlocks / most, 4),
    leaseCost: LEASE_COST_TOKENS,
    batchRoadPrefixHitRatio: rounded(batches.hitBlocks / most, 4),
    batchRoadLeaseCost: LOAD_STEP,
    prefixHitsOfAll: rounded(own.hitBlocks / all, 4),
    streamPrefixHitRatio: rounded(streams.hitBlocks / most, 4),
    blindPrefixHitRatio: rounded(blind.hitBlocks / most, 4),
    prefixWaitP99S: rounded(own.waitP99S, 2),
    cacheNodes: CACHE_NODES,
    cacheBlocksPerNode: CACHE_BLOCKS,
  };
}

/**
 * G12: the same requests for the same models, once by the scheduler's own placement, once only where the model is loaded. Then with a
 * turn in the middle, from which on the least wanted models are the most wanted ones, and nodes hold what was right before; and
 * then with bursts of requests for one model.
 *
 * @param {readonly TraceRequest[]} requests
 * @param {Say} say
 */
async function coldStarts(requests, say) {
  const some = requests.slice(0, MODEL_REQUESTS);
  const timed = loaded(some, MODELS_OFFERED, MODEL_NODES, LEASES_AHEAD);
  const fleet = { nodes: MODEL_NODES, ...MODELS };
  /**
   * @param {string} what
   * @param {readonly ModelRequest[]} work
   * @param {{ readonly knownUntilS?: number }} [known]
   */
  const play = async (what, work, known = {}) => {
    const run = (/** @type {ColdStartsSetting['policy']} */ policy) =>
      replayColdStarts({ work, ...fleet, ...known, policy });
    const [own, warm] = [await run('priced'), await run('warm-only')];
    say(
      `  ${MODELS.models} models${what}: p99 of the wait ${own.waitP99S.toFixed(2)} s with ${own.colds} cold starts; ${warm.waitP99S.toFixed(2)} s only where they are loaded`,
    );
    return { own, warm };
  };
  const turnAtS = timed[timed.length - 1].atS / 2;
  const even = withModels(timed, MODELS.models, 1);
  const beside = withModels(loaded(some, BURSTS_BESIDE, MODEL_NODES, LEASES_AHEAD), MODELS.models, 1);
  const steady = await play('', even);
  const turned = await play(', demand turned over in the middle', withModels(timed, MODELS.models, 1, turnAtS), {
    knownUntilS: turnAtS,
  });
  const bursts = await play(', bursts of requests for one', withBursts(beside, BURSTS, 1));
  const unpriced = await replayColdStarts({ work: even.slice(0, UNPRICED_REQUESTS), ...fleet, policy: 'unpriced' });
  return {
    coldStartWaitP99S: rounded(steady.own.waitP99S, 3),
    warmOnlyWaitP99S: rounded(steady.warm.waitP99S, 3),
    unpricedWaitP99S: rounded(unpriced.waitP99S, 3),
    coldStarts: steady.own.colds,
    turnedWaitP99S: rounded(turned.own.waitP99S, 3),
    turnedWarmOnlyWaitP99S: rounded(turned.warm.waitP99S, 3),
    turnedColdStarts: turned.own.colds,
    burstWaitP99S: rounded(bursts.own.waitP99S, 3),
    burstWarmOnlyWaitP99S: rounded(bursts.warm.waitP99S, 3),
    burstColdStarts: bursts.own.colds,
    modelNodes: MODEL_NODES,
    ...MODELS,
  };
}
