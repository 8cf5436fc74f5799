/**
 * The life of a task. A task is cut when a slot asks for work and starts `queued`; a lease binds it to one node for one
 * epoch; the node starts, delivers its rows under a signed commitment, and verification accepts or rejects them. Every
 * return to `queued` starts a new epoch, so that whatever the previous node still says is recognised as stale.
 */
export const TASK_STATES = [
  'queued',
  'leased',
  'running',
  'delivered',
  'accepted',
  'failed',
  'cancelled',
  'expired',
] as const;
export type TaskState = (typeof TASK_STATES)[number];

export const TASK_EVENTS = [
  'lease',
  'start',
  'deliver',
  'accept',
  'reject',
  'refuse',
  'yield',
  'lose',
  'cancel',
  'expire',
  'fail',
] as const;
export type TaskEvent = (typeof TASK_EVENTS)[number];

/** Rows are states, cells are what an event makes of them. A missing cell is an event refused. */
const TRANSITIONS: Readonly<Record<TaskState, Partial<Record<TaskEvent, TaskState>>>> = {
  queued: { lease: 'leased', cancel: 'cancelled', expire: 'expired', fail: 'failed' },
  leased: {
    start: 'running',
    deliver: 'delivered',
    refuse: 'queued',
    lose: 'queued',
    cancel: 'cancelled',
    expire: 'expired',
  },
  running: { deliver: 'delivered', yield: 'queued', lose: 'queued', cancel: 'cancelled', expire: 'expired' },
  delivered: { accept: 'accepted', reject: 'queued', lose: 'queued', cancel: 'cancelled', expire: 'expired' },
  accepted: {},
  failed: {},
  cancelled: {},
  expired: {},
};

/** The state after `event`, or null when the event is refused in that state. */
export function nextState(state: TaskState, event: TaskEvent): TaskState | null {
  return TRANSITIONS[state][event] ?? null;
}

/** The states in which `event` is allowed: what a compare-and-set names in its WHERE. */
export function statesBefore(event: TaskEvent): readonly TaskState[] {
  return TASK_STATES.filter((state) => TRANSITIONS[state][event] !== undefined);
}

/** Refuse and yield are the owner's right and don't count as attempts; a lost or rejected lease does. */
export function countsAsAttempt(event: TaskEvent): boolean {
  return event === 'lose' || event === 'reject';
}

export function isFinal(state: TaskState): boolean {
  return Object.keys(TRANSITIONS[state]).length === 0;
}

/** A poison task (one whose leases die again and again) fails with a reason after this many counted attempts. */
export const ATTEMPTS_MAX = 8;
