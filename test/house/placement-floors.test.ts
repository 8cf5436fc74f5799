import { describe, expect, it } from '@jest/globals';
import { sharedFile } from '@freehold/testing';
import { PUBLISHED, readNodeList, readPodList, runOpenb } from '@freehold/testing/placement';

/** Floors of placement quality that are no timings. More seeds, and the targets: `npm run bench -- openb`. */
const SEEDS = { default: [1, 2], multigpu20: [1], gpushare40: [1], gpuspec10: [1], cpu100: [1] };
const DEFAULT_FLOOR = 95.2;
const BELOW_FGD_MAX = 0.3;
/** Per decision; a scan would look at all 1,213 nodes. */
const STATES_EXAMINED_MAX = 60;

describe('placement on the openb traces', () => {
  const nodeFile = sharedFile('data/openb/openb_node_list_gpu_node.csv');
  const nodes = nodeFile === null ? [] : readNodeList(nodeFile).rows;

  for (const [trace, seeds] of Object.entries(SEEDS)) {
    it(`allocates no less of ${trace} than its floor, looking at few states`, () => {
      const podFile = sharedFile(`data/openb/openb_pod_list_${trace}.csv.gz`);
      if (podFile === null) return;
      const pods = readPodList(podFile).rows;
      const runs = seeds.map((seed) => runOpenb(nodes, pods, seed));
      const mean = runs.reduce((sum, run) => sum + run.allocated, 0) / runs.length;
      const { fgd } = PUBLISHED[trace as keyof typeof PUBLISHED];
      expect(mean).toBeGreaterThanOrEqual(trace === 'default' ? DEFAULT_FLOOR : fgd - BELOW_FGD_MAX);
      for (const run of runs) expect(run.examined).toBeLessThanOrEqual(STATES_EXAMINED_MAX);
      if (trace === 'default') expect(mean).toBeLessThanOrEqual(runs[0]?.upperBound() ?? 0);
    });
  }
});
