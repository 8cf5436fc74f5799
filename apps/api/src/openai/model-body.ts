import { isHere, type FineTunedModel, type KnownModel } from '@freehold/market';
import { unitsToJson, type Rates } from '@freehold/domain';
import { formatUnitPrice } from '@freehold/protocol';

/** A model in OpenAI's shape; price, context, quantisation, licence and supply as extra keys. */
export function modelBody(model: KnownModel): Record<string, unknown> {
  const { listed, offered } = model;
  const cheapest = cheapestOf(model);
  return {
    id: model.name,
    object: 'model',
    created: listed?.created ?? 0,
    owned_by: listed?.ownedBy ?? 'provider',
    kind: model.kind,
    description: listed?.description ?? null,
    licence: listed?.licence ?? null,
    context_tokens: model.usualContext,
    dimensions: listed?.dimensions ?? null,
    quantisations: [...new Set(offered.map((offer) => offer.model.quantisation))],
    digests: [...new Set(offered.map((offer) => offer.model.digest))],
    nodes_offering: nodesHere(offered),
    /** Smallest token units per million units of work. */
    rates: {
      lowest: cheapest === null ? null : unitsToJson(cheapest),
      ceiling: model.ceiling === null ? null : unitsToJson(model.ceiling),
    },
  };
}

/** A fine-tune of the caller's: served at its base's price, by nodes that hold the base. */
export function fineTunedBody(model: FineTunedModel, base: KnownModel): Record<string, unknown> {
  return {
    ...modelBody(base),
    id: model.name,
    created: Math.floor(model.createdAtMs / 1_000),
    owned_by: model.orgId,
    description: `${base.name}, fine-tuned by ${model.jobId}`,
    base: base.name,
    adapter: model.adapter,
    nodes_offering: nodesHere(base.offered.filter((offer) => offer.model.caps.lora)),
  };
}

/** OpenRouter's listing of a provider's models: prices per token as decimal strings. */
export function openRouterBody(model: KnownModel): Record<string, unknown> {
  const rates = cheapestOf(model) ?? model.ceiling ?? {};
  const quantisation = model.offered[0]?.model.quantisation ?? model.listed?.quantisation ?? 'unknown';
  return {
    id: model.name,
    hugging_face_id: '',
    name: model.name,
    created: model.listed?.created ?? 0,
    description: model.listed?.description ?? '',
    input_modalities: ['text'],
    output_modalities: [model.kind === 'chat' ? 'text' : 'embeddings'],
    quantization: quantisation.toLowerCase(),
    context_length: model.usualContext,
    max_output_length: model.kind === 'chat' ? model.usualContext : 0,
    pricing: {
      prompt: formatUnitPrice((model.kind === 'chat' ? rates.inputToken : rates.embeddingToken) ?? 0n),
      completion: formatUnitPrice(rates.outputToken ?? 0n),
      image: '0',
      request: '0',
    },
    supported_sampling_parameters:
      model.kind === 'chat' ? ['temperature', 'top_p', 'seed', 'stop', 'max_tokens', 'logprobs', 'top_logprobs'] : [],
    supported_features: model.kind === 'chat' ? ['logprobs'] : [],
    is_ready: nodesHere(model.offered) > 0,
  };
}

function nodesHere(offered: KnownModel['offered']): number {
  return new Set(offered.filter(({ offer }) => isHere(offer)).map(({ offer }) => offer.node)).size;
}

function cheapestOf({ offered }: KnownModel): Rates | null {
  const total = (rates: Rates): bigint => Object.values(rates).reduce((sum, rate) => sum + rate, 0n);
  return offered.map(({ rates }) => rates).sort((a, b) => (total(a) < total(b) ? -1 : 1))[0] ?? null;
}
