export { childEngine, type ChildEngine, type ChildEngineSpec } from './child-process/child-engine.ts';
export {
  FREEHOLD_TINY_TEMPLATE,
  type ChatTemplate,
  type LlamaCppModel,
  type LlamaCppOptions,
} from './llama-cpp/options.ts';
export { USE_LITE_DIGEST, USE_LITE_MODEL, USE_LITE_TOKENS_MAX } from './use-lite/model.ts';
export { openAiHttpEngine, type OpenAiHttpSpec } from './openai-http/openai-http-engine.ts';
export { inventory, type Inventory, type InventorySources } from './inventory/inventory.ts';
export type { Gpu } from './inventory/nvidia-smi.ts';
export { measure, type MeasuredModel, type MeasureOptions } from './measure.ts';
export {
  LLAMA_CPP_MEMORY_MIB,
  llamaCppModel,
  localEngines,
  useLiteModel,
  type LocalEngineLimits,
  type LocalEngines,
  type LocalModel,
} from './local-engines.ts';
export { compareVectors, decodeVector, encodeVector, type VectorAgreement } from './vectors.ts';
export { scoreEmbedding } from './score-embedding.ts';
export { trainerEngine, type BaseFile, type TrainerEngineSpec } from './trainer/trainer-engine.ts';
export { childTrainer, type ChildTrainer, type ChildTrainerSpec } from './trainer/child-trainer.ts';
export { REFERENCE_TRAINER_MEMORY_MIB, referenceTrainer } from './trainer/reference-process.ts';
export { readCheckpoint } from './trainer/read-checkpoint.ts';
export { peftTrainer } from './trainer/peft-process.ts';
