export { workQueueSuite, type WorkQueueBench } from './work-queue-suite.ts';
export { sharedFile, sharedJson } from './shared.ts';
export { engineSuite, type EngineTraits } from './engine-suite.ts';
