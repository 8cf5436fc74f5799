import { leaseKey, segmentSteps, type SegmentOutput } from '@freehold/protocol';
import type { FineTunePlan, NewFineTuneEvent } from '../ports/fine-tune-store.ts';
import type { LeaseView } from '../ports/lease-store.ts';
import type { RowsEnd } from '../ports/provider-link.ts';

/** Of a segment's steps, so many are shown: a curve needs no more, and a job of weeks stays readable. */
const STEPS_SHOWN_PER_SEGMENT = 50;

const info = (key: string, message: string, data?: Readonly<Record<string, unknown>>): NewFineTuneEvent => ({
  key,
  level: 'info',
  type: 'message',
  message,
  ...(data === undefined ? {} : { data }),
});

const shortNode = (nodeId: string): string => `…${nodeId.slice(-8)}`;

/** What a requester reads about the leases of a fine-tune. Nodes by the end of their id, segments and steps by number. */
export const leaseEvents = {
  started(view: LeaseView, { plan }: FineTunePlan, done: number): readonly NewFineTuneEvent[] {
    const first = view.rowFrom + done;
    if (first >= view.rowTo) return [];
    const { from } = segmentSteps(plan, first);
    const how = from === 0 ? 'begins' : `goes on from the checkpoint after step ${from}`;
    return [
      info(
        `lease-${leaseKey(view)}-${done}`,
        `Training ${how}: segments ${first} to ${view.rowTo - 1} on node ${shortNode(view.nodeId)}.`,
        { node: view.nodeId, from_segment: first, to_segment: view.rowTo - 1, step: from },
      ),
    ];
  },

  delivered(view: LeaseView, segment: number, output: SegmentOutput): readonly NewFineTuneEvent[] {
    return [
      info(
        `delivered-${leaseKey(view)}-${segment}`,
        `Segment ${segment} delivered at step ${output.toStep}, checkpoint ${output.checkpoint.slice(0, 12)} kept; not verified yet.`,
        { segment, step: output.toStep, checkpoint: output.checkpoint },
      ),
    ];
  },

  ended(view: LeaseView, end: RowsEnd): readonly NewFineTuneEvent[] {
    if (end.end === 'committed' || end.end === 'cut') return [];
    const why = end.end === 'yielded' ? 'its owner wanted the machine' : `${end.code}: ${end.message}`;
    return [
      {
        key: `ended-${leaseKey(view)}`,
        level: end.end === 'failed' ? 'warn' : 'info',
        type: 'message',
        message: `Node ${shortNode(view.nodeId)} stopped (${why}). Another one goes on from the last checkpoint.`,
      },
    ];
  },

  /** @param done Segments that the lease has delivered. */
  paused(view: LeaseView, done: number): readonly NewFineTuneEvent[] {
    const next = view.rowFrom + done;
    return [
      info(
        `paused-${leaseKey(view)}-${done}`,
        `Node ${shortNode(view.nodeId)} stopped before segment ${next}: the job is paused. What it delivered is verified and charged; segment ${next} begins when the job is resumed.`,
        { from_segment: next },
      ),
    ];
  },

  accepted(segment: number, fromStep: number, output: SegmentOutput): readonly NewFineTuneEvent[] {
    const every = Math.max(1, Math.ceil(output.losses.length / STEPS_SHOWN_PER_SEGMENT));
    return output.losses.flatMap((loss, at) => {
      const step = fromStep + at + 1;
      if ((at + 1) % every !== 0 && at + 1 !== output.losses.length) return [];
      const accuracy = output.accuracies[at] ?? 0;
      return [
        {
          key: `metrics-${step}`,
          level: 'info' as const,
          type: 'metrics' as const,
          message: `Step ${step}: training loss=${loss.toFixed(4)}`,
          data: { step, train_loss: loss, train_mean_token_accuracy: accuracy, segment },
        },
      ];
    });
  },

  verified(view: LeaseView, rows: number, audited: number): readonly NewFineTuneEvent[] {
    return [
      info(
        `verified-${leaseKey(view)}`,
        `Segments ${view.rowFrom} to ${view.rowFrom + rows - 1} accepted: ${audited} of ${rows} were run again by others and agreed.`,
        { from_segment: view.rowFrom, to_segment: view.rowFrom + rows - 1, audited },
      ),
    ];
  },

  rejected(view: LeaseView, why: string): readonly NewFineTuneEvent[] {
    return [
      {
        key: `rejected-${leaseKey(view)}`,
        level: 'warn',
        type: 'message',
        message: `Segments ${view.rowFrom} to ${view.rowTo - 1} of node ${shortNode(view.nodeId)} are void (${why}) and cost nothing. They are trained again.`,
      },
    ];
  },
} as const;
