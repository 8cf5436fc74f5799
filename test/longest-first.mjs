import sequencer from '@jest/test-sequencer';

/** Its types are those of its CommonJS form. */
const Sequencer = /** @type {typeof sequencer.default} */ (/** @type {unknown} */ (sequencer));

/**
 * The files that take longest, with their seconds. On two cores whatever long file starts last decides when all are done; and
 * those that mostly wait (for locks to expire, processes to die) leave the cores to others meanwhile. Elsewhere jest's own
 * order holds: by what it measured here before, on a fresh clone by size.
 */
/** @type {Readonly<Record<string, number>>} */
const SECONDS = {
  'start.test.ts': 120,
  'two-schedulers.test.ts': 60,
  'redis.test.ts': 30,
  'sim.test.ts': 20,
  'attack-table.test.ts': 12,
  'launcher.test.ts': 12,
  'placement-floors.test.ts': 9,
  'placement-index.test.ts': 7,
  'clear.test.ts': 6,
  'freehold-tiny.test.ts': 6,
  'openai-http-engine.test.ts': 5,
  'batch-files.test.ts': 3,
  'fine-tune.test.ts': 30,
  'bull-work-queue.integration.test.ts': 28,
  'failpoints.test.ts': 26,
  'process.integration.test.ts': 25,
  'hostile.integration.test.ts': 20,
  'provider-node.integration.test.ts': 19,
  'same-bits.integration.test.ts': 15,
  'child-engine.integration.test.ts': 13,
  'exit.integration.test.ts': 11,
  'chain-faults.test.ts': 10,
  'rpc-endpoints.test.ts': 10,
  'served-adapter.integration.test.ts': 9,
  'batches.integration.test.ts': 8,
  'use-lite.integration.test.ts': 7,
  'freehold-tiny.integration.test.ts': 7,
  'postgres.integration.test.ts': 7,
  'own-engines.integration.test.ts': 6,
  'full-disk.integration.test.ts': 6,
  'engines.integration.test.ts': 6,
};

export default class LongestFirst extends Sequencer {
  /**
   * @override
   * @param {Parameters<InstanceType<typeof Sequencer>['sort']>[0]} tests
   */
  async sort(tests) {
    const seconds = (/** @type {{ readonly path: string }} */ { path }) =>
      SECONDS[path.slice(path.lastIndexOf('/') + 1)] ?? 0;
    return [...(await super.sort(tests))].sort((a, b) => seconds(b) - seconds(a));
  }
}
