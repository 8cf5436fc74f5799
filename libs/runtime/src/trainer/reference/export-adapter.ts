import type { ExportFormat, LoraTarget, StateTensor, TrainingPlan, WrittenFile } from '@freehold/protocol/trainer';
import { loraGguf, type AdapterPair } from '../../../../../models/freehold-tiny/index.mjs';
import type { Kernel } from './kernel.ts';
import type { Parameter } from './linear.ts';
import type { LlamaConfig } from './llama.ts';
import { littleEndian } from './training-state.ts';
import { writeFileWhole } from './write-file.ts';
import { writeSafetensors } from './write-safetensors.ts';

/** transformers' names of what llama.cpp calls otherwise. */
const PEFT_MODULES: Readonly<Record<LoraTarget, { readonly parent: string; readonly module: string }>> = {
  attn_q: { parent: 'self_attn', module: 'q_proj' },
  attn_k: { parent: 'self_attn', module: 'k_proj' },
  attn_v: { parent: 'self_attn', module: 'v_proj' },
  attn_output: { parent: 'self_attn', module: 'o_proj' },
  ffn_gate: { parent: 'mlp', module: 'gate_proj' },
  ffn_up: { parent: 'mlp', module: 'up_proj' },
  ffn_down: { parent: 'mlp', module: 'down_proj' },
};

export interface TrainedAdapter {
  readonly kernel: Kernel;
  readonly parameters: readonly Parameter[];
  readonly config: LlamaConfig;
  readonly plan: TrainingPlan;
}

/** Writes the adapter as other programs load it. */
export async function exportAdapter(
  adapter: TrainedAdapter,
  format: ExportFormat,
  folder: string,
): Promise<WrittenFile[]> {
  if (format === 'gguf-lora') return [await writeFileWhole(folder, 'adapter.gguf', ggufOf(adapter))];
  const config = Buffer.from(`${JSON.stringify(peftConfig(adapter.plan), null, 2)}\n`, 'utf8');
  return [
    await writeFileWhole(folder, 'adapter_config.json', config),
    await writeFileWhole(folder, 'adapter_model.safetensors', peftWeights(adapter)),
  ];
}

function ggufOf({ kernel, parameters, plan }: TrainedAdapter): Buffer {
  const pairs = parameters
    .filter(({ name }) => name.endsWith('.lora_a'))
    .map((a): AdapterPair => {
      const name = a.name.slice(0, -'.lora_a'.length);
      const b = parameters.find((each) => each.name === `${name}.lora_b`) as Parameter;
      return {
        name,
        a: { shape: a.shape, data: numbersOf(kernel, a) },
        b: { shape: b.shape, data: numbersOf(kernel, b) },
      };
    });
  return loraGguf({ name: plan.base.model, alpha: plan.method.alpha, pairs });
}

function peftConfig({ base, method }: TrainingPlan): Record<string, unknown> {
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base.model,
    r: method.r,
    lora_alpha: method.alpha,
    lora_dropout: 0,
    target_modules: method.targets.map((target) => PEFT_MODULES[target].module),
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_to_transform: null,
    layers_pattern: null,
    modules_to_save: null,
    revision: null,
  };
}

function peftWeights({ kernel, parameters, config }: TrainedAdapter): Buffer {
  const tensors = parameters.map((parameter): StateTensor => {
    const [, layer, target, side] = /^blk\.(\d+)\.(\w+)\.weight\.lora_([ab])$/u.exec(parameter.name) as string[];
    const { parent, module } = PEFT_MODULES[target as LoraTarget];
    const numbers = numbersOf(kernel, parameter);
    const turned = side === 'b' && (target === 'attn_q' || target === 'attn_k');
    const data = littleEndian(turned ? halvesOfPairs(numbers, parameter.shape, config.headWidth) : numbers);
    const name = `base_model.model.model.layers.${layer}.${parent}.${module}.lora_${side === 'a' ? 'A' : 'B'}.weight`;
    return { name, shape: parameter.shape, data };
  });
  return writeSafetensors({ format: 'pt' }, tensors);
}

/**
 * Rows of queries and keys as transformers has them: it turns element i of a head with element i + half, where llama.cpp
 * turns neighbours, so its converter interleaves the halves and this takes them apart again.
 */
export function halvesOfPairs(
  numbers: Float32Array,
  [rows, columns]: readonly [number, number],
  headWidth: number,
): Float32Array {
  const out = new Float32Array(numbers.length);
  for (let row = 0; row < rows; row += 1) {
    const inHead = row % headWidth;
    const to = row - inHead + Math.floor(inHead / 2) + (inHead % 2) * (headWidth / 2);
    out.set(numbers.subarray(row * columns, (row + 1) * columns), to * columns);
  }
  return out;
}

function numbersOf(kernel: Kernel, { at, shape }: Parameter): Float32Array {
  return kernel.f32.slice(at, at + shape[0] * shape[1]);
}
