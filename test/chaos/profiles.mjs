/**
 * @typedef {object} Profile
 * @property {number} jobs
 * @property {number} rows
 * @property {number} parallel
 * @property {number} nodes
 * @property {number} rowDelayMs
 * @property {number} kills
 * @property {number} stops
 * @property {number} absences
 * @property {boolean} calmAbsences
 * @property {number} reorgs
 * @property {number} queueWipes
 * @property {number} databaseCrashes
 * @property {number} failpoints
 * @property {boolean} refund
 * @property {number} inFlightShare
 * @property {number} limitSeconds
 * @property {readonly [low: number, high: number]} gapMs
 * @property {number} clockEveryMs
 */

/**
 * How much is broken. Faults that hit nothing prove nothing: at least `inFlightShare` of the kills must find work under way.
 *
 * jobs: batches at least, of `rows` rows each, `parallel` at once; there are more when the faults take longer than they do.
 * kills: SIGKILL of a process. stops: SIGSTOP for a moment. absences: a node stopped for longer than its lease. reorgs: blocks
 * taken back, up to {@link REORG_DEPTH_MAX}. queueWipes: BullMQ's tables dropped. databaseCrashes: Postgres killed hard and
 * started again. failpoints: kills that the scheduler does to itself at a named step of its work, among the kills.
 * calmAbsences: the scheduler is left alone while a node is away, because each of its starts gives that node 30 s more; the node
 * comes back when its lease is taken from it.
 * clockEveryMs: the chain's clock jumps to the end of an epoch or of its window. refund: the order is closed at the end as well.
 * limitSeconds: from the first submission, a bound against hanging and no measurement.
 *
 * @type {Readonly<Record<string, Profile>>}
 */
export const PROFILES = {
  smoke: {
    jobs: 1,
    rows: 320,
    parallel: 1,
    nodes: 3,
    rowDelayMs: 40,
    kills: 20,
    stops: 3,
    absences: 1,
    calmAbsences: true,
    reorgs: 3,
    queueWipes: 1,
    databaseCrashes: 1,
    failpoints: 2,
    refund: false,
    inFlightShare: 0.3,
    limitSeconds: 240,
    gapMs: [500, 1_000],
    clockEveryMs: 8_000,
  },
  ci: {
    jobs: 9,
    rows: 100,
    parallel: 3,
    nodes: 4,
    rowDelayMs: 120,
    kills: 200,
    stops: 40,
    absences: 8,
    calmAbsences: false,
    reorgs: 50,
    queueWipes: 20,
    databaseCrashes: 10,
    failpoints: 30,
    refund: true,
    inFlightShare: 0.3,
    limitSeconds: 720,
    gapMs: [300, 1_200],
    clockEveryMs: 5_000,
  },
  soak: {
    jobs: 10_000,
    rows: 1,
    parallel: 40,
    nodes: 4,
    rowDelayMs: 40,
    kills: 1_000,
    stops: 200,
    absences: 40,
    calmAbsences: false,
    reorgs: 500,
    queueWipes: 200,
    databaseCrashes: 50,
    failpoints: 150,
    refund: true,
    inFlightShare: 0.3,
    limitSeconds: 3_600,
    gapMs: [500, 1_500],
    clockEveryMs: 8_000,
  },
};

/** Rows run per row of the batches, at most. */
export const AMPLIFICATION_MAX = 2;
/** Blocks of a reorganisation; the devnet makes one a second. */
export const REORG_DEPTH_MAX = 6;
