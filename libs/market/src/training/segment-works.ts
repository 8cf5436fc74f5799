import {
  segmentSteps,
  segmentsOf,
  type SegmentOutput,
  type SegmentWork,
  type Work,
  type WorkOutput,
} from '@freehold/protocol';
import { blobName, type ObjectDesk } from '../object-desk.ts';
import { outputOf } from '../finalize-batch.ts';
import type { Blobs } from '../ports/blobs.ts';
import type { FineTunePlan, FineTuneStore } from '../ports/fine-tune-store.ts';
import type { JobStore } from '../ports/job-store.ts';
import type { ObjectStore } from '../ports/object-store.ts';
import type { TrainableBases } from '../ports/trainable-bases.ts';
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
  const output = await acceptedSegment(ports, jobId, segment - 1);
  if (output === null)
    throw new Error(`segment ${segment} of ${jobId} was leased before segment ${segment - 1} was accepted`);
  return stateAfter(output);
}

export async function acceptedSegment(
  ports: Pick<TrainingPorts, 'jobs' | 'objects'>,
  jobId: string,
  segment: number,
): Promise<SegmentOutput | null> {
  const [row] = await ports.jobs.results(jobId, segment, 1);
  if (row === undefined || row.rowNo !== segment || row.state !== 'succeeded' || row.result === null) return null;
  const [piece] = await ports.objects.readPieces(segmentObject(row.result), [row.result]);
  const output = outputOf(piece);
  return output.kind === 'segment' ? output : null;
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

/** The same, with what only the coordinator knows: the plan's first state, its context, and what lies in the object store. */
export async function plannedSegmentFault(
  objects: ObjectStore,
  planned: FineTunePlan,
  work: SegmentWork,
  output: SegmentOutput,
): Promise<string | null> {
  if (work.from === null && output.stateIn !== planned.initialState)
    return `started from state ${output.stateIn.slice(0, 12)}… instead of the plan's first`;
  const tokensMax = output.losses.length * planned.plan.batch.examples * planned.contextTokens;
  if (output.tokens > tokensMax) return `counted ${output.tokens} tokens where at most ${tokensMax} are possible`;
  const bytes = await objects.size(blobName(output.checkpoint));
  if (bytes === output.checkpointBytes) return null;
  return bytes === null
    ? `committed to checkpoint ${output.checkpoint.slice(0, 12)}… and did not bring it`
    : `committed to a checkpoint of ${output.checkpointBytes} bytes, it has ${bytes}`;
}
