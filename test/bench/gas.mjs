/**
 * Gas of settling 70 × 10,000 jobs in a week, by each road, next to one transfer per job. Sizes stand in the names. Goals are
 * ceilings here: less is better. `floor` is what must hold, `target` what we would like.
 */
import { fileURLToPath } from 'node:url';
import { GOALS, measure, missedGoals } from '../../contracts/scripts/gas.mjs';

export async function run() {
  const { metrics, also } = measure();
  return {
    name: 'gas',
    metrics,
    also,
    floor: GOALS,
    target: { ...GOALS, netted1000x100: 5 },
    pass: missedGoals(metrics).length === 0,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const result = await run();
  process.stdout.write(`${JSON.stringify(result)}\n`);
  if (!result.pass) process.exitCode = 1;
}
