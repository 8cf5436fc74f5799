import type {
  ControlledEvaluateIndexOutput,
  ControlledEvaluateInputItem,
  LlamaContextSequence,
  Token,
} from 'node-llama-cpp';
import type { TokenCandidate } from '@freehold/domain';

/** The engine's own sampler is never used: at temperature 0 it hands out raw logits, from which ours picks. */
const RAW = { temperature: 0 } as const;

/** What to ask of one position: its likeliest tokens, and always those in `tokens`. */
export interface Asked {
  readonly top: number;
  readonly tokens?: readonly number[];
}

/** A position of the input, as the native library wants it; with `asked` its next-token candidates come back. */
export function inputItem(token: number, asked: Asked | undefined): ControlledEvaluateInputItem {
  if (asked === undefined) return token as Token;
  const filter = { tokens: (asked.tokens ?? []) as Token[], includeTop: asked.top, includeMax: true };
  return [token as Token, { generateNext: { logits: { filter }, totalLogitWeight: true, options: RAW } }];
}

/** Natural-log probabilities over the whole vocabulary, likeliest first, of the tokens that were asked for. */
export function candidatesOf(output: ControlledEvaluateIndexOutput | undefined): TokenCandidate[] {
  const { logits, totalLogitWeight } = output?.next ?? {};
  if (logits === undefined || totalLogitWeight === undefined)
    throw new TypeError('The engine gave no logits for a position that asked for them.');
  const sorted = [...logits].sort((a, b) => b[1] - a[1]);
  const best = sorted[0]?.[1] ?? 0;
  const normaliser = best + Math.log(totalLogitWeight);
  return sorted.map(([token, logit]) => ({ token, logprob: logit - normaliser }));
}

/** Feeds `tokens` and returns the candidates after the last of them. */
export async function feed(
  sequence: LlamaContextSequence,
  tokens: readonly number[],
  asked: Asked,
): Promise<TokenCandidate[]> {
  const input = tokens.map((token, at) => inputItem(token, at === tokens.length - 1 ? asked : undefined));
  const outputs = await sequence.controlledEvaluate(input);
  return candidatesOf(outputs[tokens.length - 1]);
}
