export { BullWorkQueue, type BullWorkQueueOptions } from './bull-work-queue.ts';
export { RETRY_FIRST_MS, RETRY_LONGEST_MS, retryDelayMs } from './retry.ts';
