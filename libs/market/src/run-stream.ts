import { AUDITORS_NEEDED } from '@freehold/domain';
import { worstUsage } from '@freehold/protocol';
import { chooseStreamNodes } from './choose-stream-nodes.ts';
import { whereaboutsOf } from './may-hold.ts';
import { noCapacity } from './no-capacity.ts';
import type { Entropy } from './ports/surroundings.ts';
import { notVerifiable, verifiableBy } from './verifiable-by.ts';
import { type RunStreamPorts, type StreamRequest, type StreamStep, adapterOf } from './stream-request.ts';
import { RunningStream } from './running-stream.ts';

/**
 * Runs one chat or embedding while the requester waits. The node gets the work while the transaction that lets it be billed
 * still commits; nothing of the answer leaves before that. The answer goes out at once, is audited and charged afterwards.
 *
 * Leaving the generator early (the requester hung up) stops the node and ends the job free of charge.
 *
 * @throws {ApiError} Before `taken` as an answer of its own; after it as the end of the stream.
 */
export async function* runStream(
  ports: RunStreamPorts,
  request: StreamRequest,
  signal: AbortSignal,
): AsyncGenerator<StreamStep> {
  const worst = worstUsage(request.work, request.contextTokens);
  const cachedOn = ports.prefixes?.tokensOn(request.orgId, request.model, request.work);
  const ask = {
    model: request.model,
    kind: request.kind,
    region: request.terms.region,
    needs: request.terms.needs,
    maxCost: request.terms.maxCost,
    ceiling: request.ceiling,
    listed: ports.listed,
    adapter: adapterOf(request.work) !== null,
    worst,
    ...(cachedOn === undefined ? {} : { cachedOn }),
  };
  const unverifiable = whyUnverifiable(ports, request);
  const choice = chooseStreamNodes(ask, ports.link.nodes(), ports.standing, (bound) => below(ports.entropy, bound));
  const [first] = choice.candidates;
  // Where nobody may do the work at all, no level of verification helps.
  if (unverifiable !== null && (first !== undefined || unverifiable.workers > 0)) throw notVerifiable(unverifiable);
  if (first === undefined) throw noCapacity(request, choice, [], null);
  const run = new RunningStream(ports, request, choice, signal);
  try {
    const earlier = await run.open(first);
    if (earlier !== null) {
      yield earlier;
      return;
    }
    yield { type: 'taken', requestId: request.requestId };
    yield* run.answers();
  } finally {
    await run.close();
  }
}

/** Before any money is held. A level that takes what there is needs no look: it would cost every chat a walk over all nodes. */
function whyUnverifiable(
  ports: RunStreamPorts,
  { model, terms, metadata }: StreamRequest,
): ReturnType<typeof verifiableBy> | null {
  if (AUDITORS_NEEDED[terms.verify] === 0) return null;
  const offers = ports.link.nodes().flatMap(({ id, offer }) => (ports.standing.isBenched(id) ? [] : [offer]));
  const where = whereaboutsOf({ region: terms.region, metadata, poolId: null });
  const found = verifiableBy({ level: terms.verify, model, ...where }, offers, ports.holdsModel);
  return found.possible ? null : found;
}

function below(entropy: Entropy, bound: number): number {
  const bytes = entropy.bytes(4);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(0) % bound;
}
