export { BooksWorld, booksSuite, type Projection } from './books-suite.ts';
export { PAYERS } from './played-chain.ts';
export { leaseStoreSuite } from './lease-store-suite.ts';
export { workQueueSuite, type WorkQueueBench } from './work-queue-suite.ts';
export { sharedFile, sharedJson } from './inputs-beside.ts';
export { engineSuite, type EngineTraits } from './engine-suite.ts';
export { trainerSuite, type TrainerGround } from './trainer-suite.ts';
export { RpcFaultProxy, type RpcMood } from './rpc-fault-proxy.ts';
