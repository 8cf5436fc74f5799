import {
  planHash,
  segmentSteps,
  segmentsOf,
  type SegmentOutput,
  type SegmentWork,
  type TrainingPlan,
  type Work,
  type WorkOutput,
} from '@freehold/protocol';
import { blobName, type ObjectDesk } from '../object-desk.ts';
import { outputOf } from '../finalize-batch.ts';
import type { Blobs } from '../ports/blobs.ts';
import type { FineTunePlan, FineTuneStore } from '../ports/fine-tune-store.ts';
import type { JobStore } from '../ports/job-store.ts';
import type { ObjectStore } from '../ports/object-store.ts';
import type { CheckpointFacts, TrainableBases } from '../ports/trainable-bases.ts';
import { segmentObject } from '../segment-object.ts';

/** What running and verifying segments needs beyond what rows of any kind do. */
export interface TrainingPorts {
  readonly jobs: Pick<JobStore, 'results'>;
  readonly fineTunes: FineTuneStore;
  readonly objects: ObjectStore;
  readonly desk: ObjectDesk;
  /** The coordinator's own trainer, for what nobody else is to be believed: hidden evaluations and exports. */
  readonly bases: TrainableBases;
  readonly blobs: Blobs;
}

/** The state that a segment starts from. */
export type StartState = SegmentWork['from'];

export function segmentWork(planned: FineTunePlan, segment: number, from: StartState): SegmentWork {
  return { kind: 'segment', plan: planned.plan, segment, from };
}

export function stateAfter(output: SegmentOutput): StartState {
  return { state: output.stateOut, checkpoint: output.checkpoint };
}

/** The state after the accepted segment before `segment`. Nothing is placed before that one is accepted. */
export async function stateBefore(ports: TrainingPorts, jobId: string, segment: number): Promise<StartState> {
  if (segment === 0) return null;
  const accepted = await acceptedSegment(ports, jobId, segment - 1);
  if (accepted === null)
    throw new Error(`segment ${segment} of ${jobId} was leased before segment ${segment - 1} was accepted`);
  return stateAfter(accepted.output);
}

export async function acceptedSegment(
  ports: Pick<TrainingPorts, 'jobs' | 'objects'>,
  jobId: string,
  segment: number,
): Promise<{ readonly output: SegmentOutput; readonly acceptedAtMs: number } | null> {
  const [row] = await ports.jobs.results(jobId, segment, 1);
  if (row === undefined || row.rowNo !== segment || row.state !== 'succeeded' || row.result === null) return null;
  const [piece] = await ports.objects.readPieces(segmentObject(row.result), [row.result]);
  const output = outputOf(piece);
  return output.kind === 'segment' ? { output, acceptedAtMs: row.result.endedAtMs } : null;
}

/** The objects that somebody needs to run a segment again and compare its checkpoint. */
export function objectsOf(work: Work, committed?: WorkOutput): string[] {
  if (work.kind === 'chat') return work.adapter === undefined ? [] : [work.adapter];
  if (work.kind !== 'segment') return [];
  return [
    work.plan.data.sha256,
    ...(work.from === null ? [] : [work.from.checkpoint]),
    ...(committed?.kind === 'segment' ? [committed.checkpoint] : []),
  ];
}

/** What no honest trainer delivers for this work, whatever it trained; null when nothing is wrong. */
export function segmentFault(work: SegmentWork, output: WorkOutput): string | null {
  if (output.kind !== 'segment') return `answered ${output.kind} to a segment of training`;
  if (work.segment >= segmentsOf(work.plan)) return `segment ${work.segment} is not in the plan`;
  const { from, to } = segmentSteps(work.plan, work.segment);
  if (output.toStep !== to) return `ended after step ${output.toStep} instead of ${to}`;
  if (output.losses.length !== to - from || output.accuracies.length !== to - from)
    return `showed ${output.losses.length} losses and ${output.accuracies.length} accuracies of ${to - from} steps`;
  if (work.from !== null && output.stateIn !== work.from.state)
    return `started from state ${output.stateIn.slice(0, 12)}… instead of ${work.from.state.slice(0, 12)}…`;
  return null;
}

/**
 * The same, with what only the coordinator knows: the plan's first state, its context, and what lies in the object store. A
 * checkpoint is read whatever the job's audits are: the next node goes on from it, and would be the one to say what is wrong.
 */
export async function plannedSegmentFault(
  { objects, bases }: Pick<TrainingPorts, 'objects' | 'bases'>,
  planned: FineTunePlan,
  work: SegmentWork,
  output: SegmentOutput,
): Promise<string | null> {
  if (work.from === null && output.stateIn !== planned.initialState)
    return `started from state ${output.stateIn.slice(0, 12)}… instead of the plan's first`;
  const tokensMax = output.losses.length * planned.plan.batch.examples * planned.contextTokens;
  if (output.tokens > tokensMax) return `counted ${output.tokens} tokens where at most ${tokensMax} are possible`;
  const bytes = await objects.size(blobName(output.checkpoint));
  if (bytes === null) return `committed to checkpoint ${short(output.checkpoint)} and did not bring it`;
  if (bytes !== output.checkpointBytes)
    return `committed to a checkpoint of ${output.checkpointBytes} bytes, it has ${bytes}`;
  if (bytes > planned.checkpointBytesMax)
    return `brought a checkpoint of ${bytes} bytes where ${planned.checkpointBytesMax} are the most`;
  const facts = await bases.checkpointFacts(objects.read(blobName(output.checkpoint)));
  return checkpointFault(planned.plan, output, facts);
}

/** What is wrong with the bytes of a checkpoint that was brought for this output. */
export function checkpointFault(
  plan: TrainingPlan,
  output: SegmentOutput,
  facts: CheckpointFacts | null,
): string | null {
  if (facts === null) return `brought ${short(output.checkpoint)}, which is no checkpoint`;
  if (facts.base !== plan.base.sha256)
    return `brought a checkpoint for the base ${short(facts.base ?? 'none')} instead of ${short(plan.base.sha256)} (${plan.base.model})`;
  if (facts.plan !== planHash(plan)) return `brought a checkpoint of another plan (${short(facts.plan ?? 'none')})`;
  if (facts.state === output.stateOut) return null;
  return `brought a checkpoint that holds state ${short(facts.state)} instead of ${short(output.stateOut)}`;
}

const short = (hash: string): string => `${hash.slice(0, 12)}…`;
