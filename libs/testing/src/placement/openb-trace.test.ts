import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from '@jest/globals';
import { runOpenb } from './openb-run.ts';
import { readNodeList, readPodList } from './openb-trace.ts';

const folder = mkdtempSync(join(tmpdir(), 'freehold-trace-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function written(name: string, ...lines: readonly string[]): string {
  const file = join(folder, name);
  writeFileSync(file, lines.join('\n'));
  return file;
}
const NODE_HEADER = 'sn,cpu_milli,memory_mib,gpu,model';
const POD_HEADER = 'name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec';

describe('an openb trace', () => {
  it('with broken rows is read without them, each named with its line and the reason', () => {
    const nodes = readNodeList(
      written('nodes.csv', NODE_HEADER, 'a,64000,262144,2,T4', 'b,64000,262144,1000000000,T4', 'c,64000,262144,-1,T4'),
    );
    expect(nodes.rows.map(({ name }) => name)).toEqual(['a']);
    expect(nodes.refused).toEqual([
      { line: 3, why: 'gpu is 1000000000: expected a whole number from 0 to 64' },
      { line: 4, why: 'gpu is -1: expected a whole number from 0 to 64' },
    ]);
    const pods = readPodList(
      written('pods.csv', POD_HEADER, 'p,1000,1024,1,500,T4|A10', 'q,NaN,1024,1,500,', 'r,1000,1024,1,0,', 's,1000'),
    );
    expect(pods.rows).toMatchObject([{ name: 'p', gpus: 1, gpuMilli: 500, gpuModels: ['T4', 'A10'] }]);
    expect(pods.refused.map(({ line }) => line)).toEqual([3, 4, 5]);
  });

  it('without the columns, or without a usable row, is refused as a whole', () => {
    expect(() => readNodeList(written('other.csv', 'x,y', '1,2'))).toThrow(/expected the columns sn, cpu_milli/);
    expect(() => readPodList(written('empty.csv', POD_HEADER, 'p,1000,1024,1,-5,'))).toThrow(/no usable row/);
  });

  it('may name machines without GPUs, which have no model and serve what asks for processors alone', () => {
    const nodes = readNodeList(
      written('cpu.csv', NODE_HEADER, 'a,64000,262144,1,T4', 'b,500000,262144,0,', 'c,64000,262144,1,'),
    );
    expect(nodes.rows.map(({ name, gpus, gpuModel }) => [name, gpus, gpuModel])).toEqual([
      ['a', 1, 'T4'],
      ['b', 0, ''],
    ]);
    expect(nodes.refused).toEqual([{ line: 4, why: 'model is empty' }]);
    const pods = readPodList(
      written('half.csv', POD_HEADER, 'whole,60000,1024,1,1000,', 'none,60000,1024,0,0,', 'none2,60000,1024,0,0,'),
    ).rows;
    const [alone, together] = [1, 2].map((count) => runOpenb(nodes.rows.slice(0, count), pods, 1));
    expect(together?.allocated).toBe(100);
    expect(together?.upperBound()).toBeCloseTo(100, 6);
    expect(together?.dropped).toBeLessThan(alone?.dropped ?? 0);
  });

  it('that asks for no GPU, or for next to none, ends with what was expected instead of never', () => {
    const nodes = readNodeList(written('two.csv', NODE_HEADER, 'a,64000,262144,2,T4')).rows;
    const pods = (name: string, gpus: number, others = 0): ReturnType<typeof readPodList>['rows'] =>
      readPodList(
        written(
          name,
          POD_HEADER,
          `p,1000,1024,${gpus},${gpus === 0 ? 0 : 1},`,
          ...Array.from({ length: others }, (_, i) => `q${i},1000,1024,0,0,`),
        ),
      ).rows;
    expect(() => runOpenb(nodes, pods('cpu-only.csv', 0), 1)).toThrow(
      'the pod list asks for no GPU: expected at least one pod with num_gpu from 1 on',
    );
    expect(() => runOpenb(nodes, pods('nearly.csv', 1, 999), 1)).toThrow(
      /about 2600000 pods .* expected 2000000 at most/,
    );
    const without = readNodeList(written('no-gpu.csv', NODE_HEADER, 'a,64000,262144,0,')).rows;
    expect(() => runOpenb(without, pods('one.csv', 1), 1)).toThrow(
      'the node list has no GPU: expected at least one node with gpu from 1 on',
    );
  });

  it('drops a pod that no node could ever run, and places the rest', () => {
    const nodes = readNodeList(written('one.csv', NODE_HEADER, 'a,64000,262144,2,T4')).rows;
    const pods = readPodList(
      written(
        'mixed.csv',
        POD_HEADER,
        'fits,1000,1024,1,500,',
        'huge,1000,1024,8,1000,',
        'exotic,1000,1024,1,500,H100',
      ),
    ).rows;
    const run = runOpenb(nodes, pods, 1);
    expect(run.allocated).toBeGreaterThan(0);
    expect(run.dropped).toBeGreaterThanOrEqual(2);
  });
});
