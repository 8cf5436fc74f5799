/** Protocol names carry their version: a node speaks n−1 to a coordinator that speaks n; anything older is told to upgrade. */
export const CONTROL_PROTOCOL = '/freehold/control/1';
export const ABOUT_PROTOCOL = '/freehold/about/1';
export const ROWS_PROTOCOL = '/freehold/rows/1';
export const STREAM_PROTOCOL = '/freehold/stream/1';
export const AUDIT_PROTOCOL = '/freehold/audit/1';
export const OBJECT_PROTOCOL = '/freehold/object/1';
/** 2: a node may be told of processes that came later, and be asked to make room. */
export const PROTOCOL_VERSION = 2;

/** Control frames stay small, so that a heartbeat never waits behind a payload. */
export const CONTROL_FRAME_BYTES_MAX = 65_536;
/** One row in or out: an OpenAI batch line is at most 1 MiB here, and vectors of 2,048 inputs must fit. */
export const ROW_FRAME_BYTES_MAX = 24 * 1_048_576;
export const STREAM_FRAME_BYTES_MAX = 4 * 1_048_576;

export const HEARTBEAT_MS = 2_000;
/** A lease dies this long after the last heartbeat that named it. */
export const LEASE_MS = 10_000;
/** Between two frames of a lease: longer than the longest row (or segment) an engine may take, the loading of its model included. */
export const ROW_MS_MAX = 150_000;
/** An auditor waits so long for a slot before each row that it runs again; then it says that it is busy. */
export const AUDIT_SLOT_WAIT_MS = 10_000;
/** From an audit, or a score, to the next score: who needs longer is taken for silent, and no honest node does. */
export const AUDIT_SILENCE_MS = AUDIT_SLOT_WAIT_MS + ROW_MS_MAX;
/**
 * A lease whose node is there and delivers nothing is its own no longer than this. Six of the longest rows: the loading of a
 * model, a row behind another lease's on the same slot (twice as long), and a stream that broke and began again fit in it.
 */
export const STALL_MS = 6 * ROW_MS_MAX;
/** The node signs a checkpoint this often, or after this many rows, whichever comes first. */
export const CHECKPOINT_MS = 2_000;
export const CHECKPOINT_ROWS = 64;
export const LEASE_ROWS_MAX = 2_048;
export const COORDINATOR_PROCESSES_MAX = 16;
