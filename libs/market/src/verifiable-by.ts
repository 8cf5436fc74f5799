import {
  atOnce,
  eachInSteps,
  verifiability,
  type Stand,
  type Steps,
  type Verifiability,
  type VerifyLevel,
} from '@freehold/domain';
import { ApiError, type Offer, type OfferModel } from '@freehold/protocol';
import { mayHold, type Whereabouts } from './may-hold.ts';

/** Whether the coordinator's own engine holds a model within its memory limit. */
export type HoldsModel = (model: string) => boolean;

type VerifyAsk = Whereabouts & { readonly level: VerifyLevel; readonly model: string };

/**
 * Who could check work on `model` at this level, among those who may see its rows. Weights of another digest are another model: the
 * best-served digest counts.
 */
export function verifiableBy(ask: VerifyAsk, offers: readonly Offer[], holds: HoldsModel): Verifiability {
  return atOnce(verifyingBy(ask, offers, holds));
}

/** For who looks at thousands of offers, and does other things between them. */
export function* verifyingBy(ask: VerifyAsk, offers: readonly Offer[], holds: HoldsModel): Steps<Verifiability> {
  const stands = new Map<string, Stand[]>();
  yield* eachInSteps(offers, (offer) => {
    const works = mayHold(ask, offer);
    for (const model of offer.engines.flatMap((engine) => engine.models)) {
      if (model.name !== ask.model) continue;
      const stand = { payout: offer.payout, works, audits: works && runsRowsAgain(model) };
      const before = stands.get(model.digest);
      if (before === undefined) stands.set(model.digest, [stand]);
      else before.push(stand);
    }
  });
  const own = holds(ask.model);
  const judged = [...stands.values()].map((of) => verifiability(ask.level, ask.model, of, own));
  return (
    judged.find(({ possible }) => possible) ??
    judged.sort((a, b) => b.auditors - a.auditors)[0] ??
    verifiability(ask.level, ask.model, [], own)
  );
}

/** An embedding is made and a segment of training is run again; text is scored by teacher forcing, which not every engine can. */
export function runsRowsAgain(model: OfferModel): boolean {
  return model.kind !== 'chat' || model.caps.promptLogprobs;
}

/** Asked for more verification than anybody here can give. */
export function notVerifiable(found: Verifiability): ApiError {
  const { auditorsNeeded, workers, auditors, ownEngine } = found;
  return new ApiError({
    status: 400,
    type: 'invalid_request_error',
    code: NOT_VERIFIABLE,
    message: found.summary,
    param: 'metadata.verify',
    detail: { auditors_needed: auditorsNeeded, workers, auditors, own_engine: ownEngine },
  });
}

export const NOT_VERIFIABLE = 'not_verifiable';
