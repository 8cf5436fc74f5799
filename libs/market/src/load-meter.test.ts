import { expect, it } from '@jest/globals';
import { LoadMeter } from './load-meter.ts';

/** A lease whose first eight rows come after so long, of a node that does ten in a second. */
function run(
  meter: LoadMeter,
  startMs: number,
  firstAfterMs: number,
  isCold = true,
  speed: number | undefined = 10,
): void {
  const lease = meter.lease('node', 'model', startMs, isCold);
  lease.rows(8, startMs + firstAfterMs);
  lease.rows(8, startMs + firstAfterMs + 800);
  lease.ended(speed);
}

it('measures what the first rows of a load took beyond their own time', () => {
  const meter = new LoadMeter();
  run(meter, 0, 12_800);
  expect(meter.seconds('node', 'model')).toBeCloseTo(12);
  expect(meter.seconds('other', 'model')).toBeUndefined();
  run(meter, 100_000, 6_800);
  expect(meter.seconds('node', 'model')).toBeCloseTo(9);
});

it('learns nothing from a lease that loads nothing, says nothing, or of which nobody knows how fast its rows are', () => {
  const meter = new LoadMeter();
  run(meter, 0, 12_800, false);
  run(meter, 100_000, 12_800, true, Number.NaN);
  meter.lease('node', 'model', 200_000, true).ended(10);
  const unknown = meter.lease('node', 'model', 300_000, true);
  unknown.rows(8, 310_000);
  unknown.ended(undefined);
  expect(meter.seconds('node', 'model')).toBeUndefined();
});

it('takes no lease for a load that follows another one at once, though the offer does not say so yet', () => {
  const meter = new LoadMeter();
  run(meter, 0, 12_800);
  run(meter, 15_000, 900);
  expect(meter.seconds('node', 'model')).toBeCloseTo(12);
});

it('stays within bounds', () => {
  const meter = new LoadMeter();
  run(meter, 0, 1e12);
  expect(meter.seconds('node', 'model')).toBe(3_600);
  const quick = new LoadMeter();
  run(quick, 0, 100);
  expect(quick.seconds('node', 'model')).toBe(0);
});
