import type { NodeSpec } from '../house/house.ts';

/** Rates of the built-in nodes, smallest token unit (10⁻⁶ of the devnet token) per million units. */
const CHAT_RATES = { inputToken: '40000', outputToken: '80000' };
const TRAINING_RATES = { trainingToken: '150000' };
/** The same machine also trains: one process, one key, two engines. */
const TRAINS = ['--engine', 'trainer'];
const EMBEDDING_RATES = { embeddingToken: '15000' };

/**
 * Who takes part in `npm start`: two honest nodes for text that also train, two for embeddings, one that forges half of its rows, one that
 * dies in its first four leases. Distinct keys, payout addresses and processes; one host, and the scorecard says so.
 */
export const CAST: readonly NodeSpec[] = [
  { name: 'text-1', engine: 'llama-cpp', rates: { ...CHAT_RATES, ...TRAINING_RATES }, flags: TRAINS },
  { name: 'text-2', engine: 'llama-cpp', rates: { ...CHAT_RATES, ...TRAINING_RATES }, flags: TRAINS },
  { name: 'embed-1', engine: 'use-lite', rates: EMBEDDING_RATES },
  { name: 'embed-2', engine: 'use-lite', rates: EMBEDDING_RATES },
  { name: 'cheat', engine: 'use-lite', mode: 'cheat', rates: EMBEDDING_RATES },
  { name: 'flapper', engine: 'llama-cpp', mode: 'flapper', rates: CHAT_RATES, restarts: 6 },
];
