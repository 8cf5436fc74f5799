export { ROLES } from './attackers/attack.ts';
export { ATTACKS, attackMarkdown, attackTable, isAsWritten, type AttackLine } from './attackers/attack-table.ts';
export { replayLine, runSeed, scenarioOf, type SeedReport } from './run-seed.ts';
export { SimWorld } from './sim-world.ts';
export { Dice } from './dice.ts';
export { MemoryLeaseWorld } from './memory/memory-lease-world.ts';
