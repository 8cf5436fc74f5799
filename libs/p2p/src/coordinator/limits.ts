import { AUDIT_SILENCE_MS, HEARTBEAT_MS, ROW_MS_MAX } from '@freehold/protocol';
import { COORDINATOR_HOST_LIMITS, type HostLimits } from '../host.ts';

/** Every wait and every size at the coordinator's end. Tests shorten the waits; operators widen the sizes. */
export interface LinkLimits {
  readonly host: HostLimits;
  /** From an open connection to a hello; whoever has not spoken by then is cut off. */
  readonly helloMs: number;
  /** A control stream without a frame for this long is dead. */
  readonly silenceMs: number;
  readonly frameMs: number;
  readonly writeMs: number;
  /** Of messages on a control stream; the answers to vouchers that we told do not count. */
  readonly controlPerSecond: number;
  readonly controlBurst: number;
  /** Control streams that one peer may open: a reconnecting node needs few. */
  readonly hellosPerSecond: number;
  readonly hellosBurst: number;
  /** Unsent bytes on a control stream beyond which the node counts as gone. */
  readonly controlBacklogBytesMax: number;
  readonly openStreamMs: number;
  /** From the grant to `started` or `refused`. */
  readonly startMs: number;
  /** Between two frames of a lease. */
  readonly rowMs: number;
  /** Inputs sent and not yet answered by a durable result. */
  readonly windowBytes: number;
  readonly windowRows: number;
  /** Results read and not yet durable. */
  readonly resultsBytesMax: number;
  readonly rowFramesPerSecond: number;
  readonly chatStreams: number;
  readonly chatFramesPerSecond: number;
  /** How long a node may take to admit a request of the stream road. */
  readonly admitMs: number;
  /** From the request to the first piece of the answer, prefill included; and between pieces. */
  readonly firstDeltaMs: number;
  readonly deltaMs: number;
  readonly answerBytesMax: number;
  /** Between two scores of an audit. */
  readonly auditRowMs: number;
  /** An offer that is valid for longer is refused: a price must not be held for ever by an old signature. */
  readonly offerAgeSMax: number;
  readonly peersRememberedMax: number;
}

export const LINK_LIMITS: LinkLimits = {
  host: COORDINATOR_HOST_LIMITS,
  helloMs: 10_000,
  silenceMs: 5 * HEARTBEAT_MS,
  frameMs: 30_000,
  writeMs: 15_000,
  controlPerSecond: 50,
  controlBurst: 300,
  hellosPerSecond: 1,
  hellosBurst: 10,
  controlBacklogBytesMax: 4 * 1_048_576,
  openStreamMs: 5_000,
  startMs: 15_000,
  rowMs: ROW_MS_MAX,
  windowBytes: 8 * 1_048_576,
  windowRows: 256,
  resultsBytesMax: 32 * 1_048_576,
  rowFramesPerSecond: 20_000,
  chatStreams: 2,
  chatFramesPerSecond: 20_000,
  admitMs: 1_000,
  firstDeltaMs: 60_000,
  deltaMs: 60_000,
  answerBytesMax: 4 * 1_048_576,
  auditRowMs: AUDIT_SILENCE_MS,
  offerAgeSMax: 31 * 86_400,
  peersRememberedMax: 20_000,
};
