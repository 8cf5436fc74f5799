/**
 * Where tasks of a real trace go: GPU allocation when 130 % of the capacity has arrived, by the published protocol.
 *
 *   npm run bench -- openb [--trace FILE] [--nodes FILE] [--seeds N]
 *
 * Without --trace: all five openb pod lists of ../shared/data/openb. Any .csv or .csv.gz of that format will do.
 */
import { existsSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { PUBLISHED, readNodeList, readPodList, runOpenb } from '@freehold/testing/placement';
import { at } from '../../scripts/launcher/paths.mjs';
import { spentMetrics, spentText, stopwatch } from './house/processor-time.mjs';
import { mean, rounded, sd } from './placement/measure.mjs';

/** @typedef {ReturnType<typeof measure>} Result */

const FOLDER = at('../shared/data/openb');
const SEEDS_MAX = 1_000;
const FLOOR_DEFAULT = 95.2;
const TARGET_DEFAULT = 95.4;
const FLOOR_BELOW_FGD = 0.3;

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ args = [], json = false } = {}) {
  const { values } = parseArgs({
    args: [...args],
    options: { trace: { type: 'string' }, nodes: { type: 'string' }, seeds: { type: 'string', default: '10' } },
  });
  const seeds = Number(values.seeds);
  if (!Number.isInteger(seeds) || seeds < 1 || seeds > SEEDS_MAX)
    throw new Error(`--seeds ${values.seeds}: expected a whole number from 1 to ${SEEDS_MAX}.`);
  const nodeFile = resolve(values.nodes ?? `${FOLDER}/openb_node_list_gpu_node.csv`);
  const traces =
    values.trace === undefined
      ? Object.keys(PUBLISHED).map((name) => `${FOLDER}/openb_pod_list_${name}.csv.gz`)
      : [resolve(values.trace)];
  const missing = [nodeFile, ...traces].find((file) => !existsSync(file));
  if (missing !== undefined) {
    if (values.trace !== undefined || values.nodes !== undefined) throw new Error(`${missing} is not there.`);
    return { metrics: { skipped: 'no ../shared/data/openb' }, pass: true };
  }
  const nodes = readNodeList(nodeFile);
  const say = json ? () => undefined : console.log;
  const results = traces.map((file) => measure(nodes, file, seeds, say));
  const [first] = results;
  const metrics =
    traces.length === 1 ? first : { ...first, traces: Object.fromEntries(results.map((r) => [r.trace, r])) };
  const floors = results.map(floorOf);
  return {
    metrics,
    floor: { mean: floors[0] },
    target: { mean: first.trace === 'default' ? TARGET_DEFAULT : (first.published?.fgd ?? null) },
    pass: results.every((result, i) => floors[i] === null || result.mean >= floors[i]),
  };
}

/**
 * @param {ReturnType<typeof readNodeList>} nodes
 * @param {string} file
 * @param {number} seeds
 * @param {(text: string) => void} say
 */
function measure(nodes, file, seeds, say) {
  const pods = readPodList(file);
  const refused = [...nodes.refused, ...pods.refused];
  for (const { line, why } of refused.slice(0, 5)) say(`  line ${line} left out: ${why}`);
  const trace = /openb_pod_list_(\w+)\.csv/.exec(basename(file))?.[1] ?? basename(file);
  const spent = stopwatch();
  const runs = Array.from({ length: seeds }, (_, i) => runOpenb(nodes.rows, pods.rows, i + 1));
  const allocated = runs.map((run) => run.allocated);
  const published = Object.entries(PUBLISHED).find(([name]) => name === trace)?.[1] ?? null;
  const placed = spent();
  const upperBound = mean(runs.map((run) => run.upperBound()));
  const result = {
    trace,
    mean: rounded(mean(allocated), 3),
    sd: rounded(sd(allocated), 3),
    seeds,
    published,
    upperBound: rounded(upperBound, 2),
    gapClosed: published === null ? null : rounded((mean(allocated) - published.fgd) / (upperBound - published.fgd), 3),
    pods: runs[0].pods,
    statesExaminedPerDecision: rounded(mean(runs.map((run) => run.examined)), 1),
    cpuSecondsPerSeed: rounded(placed.cpu / seeds, 2),
    ...spentMetrics(spent()),
    rowsRefused: refused.length,
  };
  say(
    `  ${trace}: ${result.mean} ± ${result.sd} % (FGD ${published?.fgd ?? '?'}, any policy at most ${result.upperBound}): ${spentText(spent())}`,
  );
  return result;
}

/** @param {Result} result */
function floorOf({ trace, published }) {
  if (trace === 'default') return FLOOR_DEFAULT;
  return published === null ? null : rounded(published.fgd - FLOOR_BELOW_FGD, 2);
}
