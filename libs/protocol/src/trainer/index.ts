export {
  BATCH_EXAMPLES_MAX,
  LORA_RANK_MAX,
  LORA_TARGETS,
  LoraTarget,
  planHash,
  segmentsOf,
  segmentSteps,
  Sha256Text,
  TRAINING_STEPS_MAX,
  TrainingPlan,
} from './plan.ts';
export * from './state-hash.ts';
export * from './messages.ts';
