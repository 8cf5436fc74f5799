import { DomainError } from '../errors.ts';

/** Only the likeliest tokens compete: beyond this rank a model's tail is noise, and an auditor would have to sort the whole vocabulary. */
export const SAMPLER_CANDIDATES_MAX = 256;

/** A token the model could have chosen, with its natural-log probability before temperature. */
export interface TokenCandidate {
  readonly token: number;
  readonly logprob: number;
}

/** What a row fixes about its sampling. `temperature` 0 is greedy, and then nothing else counts. */
export interface SamplingRule {
  readonly temperature: number;
  readonly topP: number;
  readonly seed: number;
}

/** How far a token lay behind the one that the rule picks: scores in nats, rank 0 for the pick itself. */
export interface Standing {
  readonly score: number;
  readonly bestScore: number;
  readonly rank: number;
}

/** One round of the MurmurHash3 finaliser: every bit of the input moves every bit of the output. */
function mix(word: number): number {
  let h = word ^ (word >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/**
 * Gumbel noise of one token at one output position, from counters alone: whoever knows the row's seed has it.
 *
 * 53 bits from two chains of the integer finaliser. A cryptographic hash is not needed: the seed is public to provider and
 * auditor alike, and 256 SHA-256 per token would cost more than a small model's forward pass.
 */
export function gumbelNoise(seed: number, position: number, token: number): number {
  const high = mix(mix(mix(seed ^ 0x9e3779b9) + position) + token);
  const low = mix(mix(mix(seed ^ 0x7f4a7c15) ^ Math.imul(position + 1, 0x27d4eb2f)) + Math.imul(token + 1, 0x165667b1));
  const uniform = ((high >>> 0) * 2 ** 21 + (low >>> 11) + 0.5) / 2 ** 53;
  return -Math.log(-Math.log(uniform));
}

/**
 * Picks the token of one position: the argmax of logprob + temperature · noise over the nucleus.
 *
 * Adding Gumbel noise to logprob / temperature and taking the largest samples exactly from the tempered distribution
 * (Gumbel-max); multiplied by the temperature the scores stay in nats, so that an auditor's margins compare with greedy ones.
 *
 * @param candidates Likeliest first; at most {@link SAMPLER_CANDIDATES_MAX} are looked at.
 */
export function pickToken(candidates: readonly TokenCandidate[], rule: SamplingRule, position: number): number {
  const first = candidates[0];
  if (first === undefined) throw new DomainError({ code: 'SAMPLER_NO_CANDIDATES', position });
  if (rule.temperature === 0) return first.token;
  let best = first.token;
  let bestScore = -Infinity;
  for (const candidate of nucleus(candidates, rule)) {
    const score = scoreOf(candidate, rule, position);
    if (score > bestScore) [best, bestScore] = [candidate.token, score];
  }
  return best;
}

/**
 * Where a committed token stands under the row's own rule.
 *
 * A token outside the nucleus could not have been picked: it is charged for the distance to the edge of the nucleus, so that
 * a rounding difference at the edge stays a small margin and a foreign token becomes a large one.
 */
export function standingOf(
  candidates: readonly TokenCandidate[],
  own: TokenCandidate,
  rule: SamplingRule,
  position: number,
): Standing {
  const first = candidates[0];
  if (first === undefined) throw new DomainError({ code: 'SAMPLER_NO_CANDIDATES', position });
  if (rule.temperature === 0) {
    const rank = candidates.findIndex((candidate) => candidate.token === own.token);
    return { score: own.logprob, bestScore: first.logprob, rank: rank < 0 ? candidates.length : rank };
  }
  const allowed = nucleus(candidates, rule);
  const scores = allowed.map((candidate) => scoreOf(candidate, rule, position));
  const bestScore = scores.reduce((best, score) => Math.max(best, score), -Infinity);
  const ownScore = scoreOf(own, rule, position);
  const rank = scores.filter((score) => score > ownScore).length;
  if (allowed.some((candidate) => candidate.token === own.token)) return { score: ownScore, bestScore, rank };
  const edge = allowed.at(-1) ?? first;
  return { score: bestScore - Math.max(0, edge.logprob - own.logprob), bestScore, rank };
}

function scoreOf(candidate: TokenCandidate, rule: SamplingRule, position: number): number {
  return candidate.logprob + rule.temperature * gumbelNoise(rule.seed, position, candidate.token);
}

/** The fewest likeliest candidates whose tempered probabilities reach `topP` of what all candidates hold; at least one. */
function nucleus(candidates: readonly TokenCandidate[], rule: SamplingRule): readonly TokenCandidate[] {
  const considered = candidates.slice(0, SAMPLER_CANDIDATES_MAX);
  if (rule.topP >= 1) return considered;
  const top = considered[0]?.logprob ?? 0;
  const weights = considered.map((candidate) => Math.exp((candidate.logprob - top) / rule.temperature));
  const wanted = rule.topP * weights.reduce((sum, weight) => sum + weight, 0);
  let held = 0;
  const count = weights.findIndex((weight) => (held += weight) >= wanted);
  return considered.slice(0, count < 0 ? considered.length : count + 1);
}
