export { childEngine, type ChildEngine, type ChildEngineSpec } from './child-process/child-engine.ts';
export type { ChatTemplate, LlamaCppModel, LlamaCppOptions } from './llama-cpp/options.ts';
export { compareVectors, decodeVector, encodeVector, type VectorAgreement } from './vectors.ts';
export { scoreEmbedding } from './score-embedding.ts';
