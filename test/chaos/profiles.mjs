/**
 * How much is broken. Faults that hit nothing prove nothing: at least `inFlightShare` of the kills must find work under way.
 * rows: of the batch. kills: SIGKILL or SIGSTOP of a process. queueWipes: BullMQ's tables dropped. databaseCrashes: Postgres
 * killed hard and started again. limitSeconds: from the submission of the batch, a bound against hanging and no measurement.
 */
export const PROFILES = {
  smoke: {
    rows: 320,
    nodes: 3,
    rowDelayMs: 120,
    kills: 20,
    stopShare: 0.25,
    queueWipes: 1,
    databaseCrashes: 1,
    inFlightShare: 0.3,
    limitSeconds: 240,
    gapMs: [700, 1_300],
  },
  ci: {
    rows: 3_000,
    nodes: 3,
    rowDelayMs: 120,
    kills: 200,
    stopShare: 0.2,
    queueWipes: 20,
    databaseCrashes: 10,
    inFlightShare: 0.3,
    limitSeconds: 720,
    gapMs: [700, 1_600],
  },
  soak: {
    rows: 10_000,
    nodes: 4,
    rowDelayMs: 120,
    kills: 1_000,
    stopShare: 0.2,
    queueWipes: 200,
    databaseCrashes: 50,
    inFlightShare: 0.3,
    limitSeconds: 3_600,
    gapMs: [900, 2_000],
  },
};

/** Leases granted per task that was needed, at most. */
export const AMPLIFICATION_MAX = 2;
