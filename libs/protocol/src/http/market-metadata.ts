import type { NodeNeeds, VerifyLevel } from '@freehold/domain';
import { isRegion, LIST_MAX, PRIORITY_MAX, VERIFY_LEVELS, WINDOW_MINUTES_MAX } from '@freehold/domain';
import { z } from 'zod';
import { parseMoney } from './money.ts';
import { parseNodeNeeds } from './node-needs.ts';
import { isStorable, problemOf, refused, type Parsed } from './problem.ts';

/** As OpenAI: sixteen pairs of strings. Some of them steer the market. */
export const Metadata = z
  .record(z.string().min(1).max(64), z.string().max(512))
  .refine((pairs) => Object.keys(pairs).length <= 16, 'expected at most 16 keys')
  .refine(
    (pairs) => Object.entries(pairs).every(([key, value]) => isStorable(key) && isStorable(value)),
    'expected text without NUL and without broken surrogate pairs',
  );
export type Metadata = z.infer<typeof Metadata>;

/** What `metadata` says to the market. */
export interface MarketTerms {
  /** Smallest token units; null: the worst case at the market's ceiling. */
  readonly maxCost: bigint | null;
  /** Milliseconds from submission; null: the completion window alone. */
  readonly deadlineInMs: number | null;
  /** Where the node may stand: one name, or several with commas between, see {@link regionsOf}. */
  readonly region: string | null;
  readonly needs: NodeNeeds;
  /** It begins on so many nodes at once, or not yet; null: on any. */
  readonly gang: number | null;
  /** Whether it waits for nodes to come where none that are there could ever run it. */
  readonly waits: boolean;
  readonly verify: VerifyLevel;
  /** 0 is usual; each level is worth ten minutes of another batch's slack. */
  readonly priority: number;
}

const DURATION_PATTERN = /^([1-9][0-9]{0,4})(m|h)$/;
const MINUTE_MS = 60_000;

/** The regions that `metadata.region` names; none: all. */
export function regionsOf(region: string | null): readonly string[] {
  return region === null ? [] : region.split(',').map((name) => name.trim());
}

/** Whether a node that stands in `stands` may do what was asked for `region`. */
export function isInRegion(region: string | null, stands: string): boolean {
  return region === null || regionsOf(region).includes(stands);
}

/** "90m", "24h" in milliseconds; null when it is none, or longer than a week. */
export function parseDuration(text: string): number | null {
  const match = DURATION_PATTERN.exec(text);
  if (match === null) return null;
  const minutes = Number(match[1]) * (match[2] === 'h' ? 60 : 1);
  return minutes <= WINDOW_MINUTES_MAX ? minutes * MINUTE_MS : null;
}

/**
 * Reads `max_cost, deadline, region, verify, priority, wait, nodes` and what {@link parseNodeNeeds} reads; other keys are the requester's
 * own. `nowMs` is needed for absolute deadlines.
 */
export function parseMarketTerms(
  metadata: unknown,
  nowMs: number,
  kind: 'batch' | 'fine-tune' | 'chat',
): Parsed<{ metadata: Metadata; terms: MarketTerms }> {
  const pairs = Metadata.safeParse(metadata ?? {});
  if (!pairs.success) return { ok: false, problem: problemOf(pairs.error, 'metadata') };
  const { max_cost: maxCostText, deadline, region, verify, priority, wait } = pairs.data;
  const maxCost = maxCostText === undefined ? null : parseMoney(maxCostText);
  if (maxCostText !== undefined && maxCost === null) {
    return refused(
      'invalid_value',
      `metadata.max_cost '${maxCostText.slice(0, 40)}': expected an amount such as "2.50", with at most six decimals.`,
      'metadata.max_cost',
    );
  }
  const deadlineInMs = deadline === undefined ? null : (parseDuration(deadline) ?? isoDeadlineInMs(deadline, nowMs));
  if (deadline !== undefined && (deadlineInMs === null || deadlineInMs <= 0)) {
    return refused(
      'invalid_value',
      `metadata.deadline '${deadline.slice(0, 40)}': expected a duration of at most a week, such as "90m", "12h" or "168h", or an ISO 8601 instant in the future and at most a week from now.`,
      'metadata.deadline',
    );
  }
  const regions = region === undefined ? [] : regionsOf(region);
  if (regions.length > LIST_MAX || !regions.every(isRegion)) {
    return refused(
      'invalid_value',
      `metadata.region '${(region ?? '').slice(0, 40)}': expected up to ${LIST_MAX} names of letters, digits, dots and dashes with commas between, such as "eu-west" or "eu-west,eu-north".`,
      'metadata.region',
    );
  }
  const level = VERIFY_LEVELS.find((known) => known === (verify ?? 'spot'));
  if (level === undefined) {
    return refused(
      'invalid_value',
      `metadata.verify '${(verify ?? '').slice(0, 40)}': expected one of ${VERIFY_LEVELS.join(', ')}.`,
      'metadata.verify',
    );
  }
  if (priority !== undefined && !(/^[0-9]$/.test(priority) && Number(priority) <= PRIORITY_MAX)) {
    return refused(
      'invalid_value',
      `metadata.priority '${priority.slice(0, 40)}': expected a whole number from "0" to "${PRIORITY_MAX}".`,
      'metadata.priority',
    );
  }
  if (wait !== undefined && wait !== 'true' && wait !== 'false') {
    return refused(
      'invalid_value',
      `metadata.wait '${wait.slice(0, 40)}': expected "true" or "false".`,
      'metadata.wait',
    );
  }
  const needs = parseNodeNeeds(pairs.data);
  if (!needs.ok) return needs;
  const gang = parseGang(pairs.data, kind);
  if (!gang.ok) return gang;
  const terms = {
    maxCost,
    deadlineInMs,
    region: region === undefined ? null : [...new Set(regions)].join(','),
    needs: needs.value,
    gang: gang.value,
    waits: waitsForNodes(pairs.data),
    verify: level,
    priority: Number(priority ?? 0),
  };
  return { ok: true, value: { metadata: pairs.data, terms } };
}

/** Nodes that a batch may begin on at once. More than so many are seldom idle together, and each waits for the last. */
export const GANG_MAX = 64;
const GANG_PATTERN = /^[1-9][0-9]?$/;

function parseGang({ nodes }: Metadata, kind: 'batch' | 'fine-tune' | 'chat'): Parsed<number | null> {
  if (nodes === undefined) return { ok: true, value: null };
  if (kind !== 'batch')
    return refused(
      'unsupported_value',
      `metadata.nodes is for batches: a ${kind} runs on one node. Leave it out, or send a batch.`,
      'metadata.nodes',
    );
  const gang = GANG_PATTERN.test(nodes) ? Number(nodes) : 0;
  if (gang >= 2 && gang <= GANG_MAX) return { ok: true, value: gang };
  return refused(
    'invalid_value',
    `metadata.nodes '${nodes.slice(0, 40)}': expected a whole number of nodes from "2" to "${GANG_MAX}", to begin on all at once.`,
    'metadata.nodes',
  );
}

/** On how many nodes at once a batch that was taken begins; null: on any. */
export function gangOf(metadata: Readonly<Record<string, string>>): number | null {
  const parsed = parseGang(metadata, 'batch');
  return parsed.ok ? parsed.value : null;
}

/** Whether a job with this metadata waits for nodes to come. */
export function waitsForNodes(metadata: Readonly<Record<string, string>>): boolean {
  return metadata['wait'] === 'true';
}

const ISO_PATTERN = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})$/;

/** Null when it is none, or more than a week from now. */
function isoDeadlineInMs(text: string, nowMs: number): number | null {
  if (!ISO_PATTERN.test(text)) return null;
  const inMs = Date.parse(text) - nowMs;
  return inMs <= WINDOW_MINUTES_MAX * MINUTE_MS ? inMs : null;
}
