export { replayLine, runSeed, scenarioOf, type SeedReport } from './run-seed.ts';
export { SimWorld } from './sim-world.ts';
