export * from './errors.ts';
export * from './units/units.ts';
export * from './jobs/job-state.ts';
export * from './jobs/task-state.ts';
export * from './pricing/charge.ts';
export * from './receipts/leaf.ts';
export * from './receipts/merkle.ts';
export * from './verification/draw.ts';
