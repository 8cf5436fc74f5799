import { leaseStoreSuite } from '../../lease-store-suite.ts';
import { MemoryLeaseWorld } from './memory-lease-world.ts';

const world = new MemoryLeaseWorld();
leaseStoreSuite('memory', () => world);
