import { GrowingTree, highestOf, type Amount } from '@freehold/domain';
import {
  ApiError,
  formatMoney,
  insufficientBalance,
  printable,
  rowLeafHash,
  taskIdBytes,
  usageOf,
  type LeaseRef,
} from '@freehold/protocol';
import { rowFault } from './check-row.ts';
import type { Choice, StreamCandidate } from './choose-stream-nodes.ts';
import { outputOf } from './finalize-batch.ts';
import { toHex } from './hex.ts';
import { noCapacity } from './no-capacity.ts';
import { inputObject } from './ports/file-store.ts';
import type { NewStream, StreamLease } from './ports/job-store.ts';
import { StreamRefused, type StreamEvent } from './ports/provider-link.ts';
import { keyReused } from './request-identity.ts';
import { countersign } from './run-lease.ts';
import { segmentObject } from './segment-object.ts';
import type { StreamTry } from './stream-tries.ts';
import {
  type RunStreamPorts,
  type StreamRequest,
  type StreamStep,
  type RanBy,
  STREAM_MS_MAX,
  adapterOf,
} from './stream-request.ts';

const NONCE_BYTES = 16;

/** One request under way. */
export class RunningStream {
  readonly #ports: RunStreamPorts;
  readonly #request: StreamRequest;
  readonly #choice: Choice;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  #input: Promise<unknown> | null = null;
  readonly #refusals: { node: string; code: string }[] = [];
  #candidate: StreamCandidate | null = null;
  #try: StreamTry | null = null;
  #lease: LeaseRef;
  #events: AsyncIterator<StreamEvent> | null = null;
  #next: Promise<IteratorResult<StreamEvent>> | null = null;
  /** From the moment the hold exists until the request has its end. */
  #open = false;
  #failure: { code: string; message: string } = {
    code: 'client_gone',
    message: 'The requester hung up before the answer was complete.',
  };

  constructor(ports: RunStreamPorts, request: StreamRequest, choice: Choice, signal: AbortSignal) {
    this.#ports = ports;
    this.#request = request;
    this.#choice = choice;
    this.#signal = AbortSignal.any([signal, this.#stop.signal]);
    this.#lease = { task: uuidOf(ports.entropy.bytes(16)), epoch: 1 };
  }

  /** Sends the work and opens the job side by side. Returns the earlier answer when this request repeats one. */
  async open(candidate: StreamCandidate): Promise<StreamStep | null> {
    const nonce = toHex(this.#ports.entropy.bytes(NONCE_BYTES));
    this.#send(candidate, nonce);
    const opened = await this.#ports.jobs.openStream(this.#newStream(candidate, nonce));
    if (opened.opened) {
      this.#open = true;
      const adapter = adapterOf(this.#request.work);
      // Before the first word leaves: an audit must run with the adapter that answered.
      if (adapter !== null) await this.#ports.jobs.setAdapter(this.#request.requestId, adapter);
      return null;
    }
    if (opened.why === 'key-reused') throw keyReused();
    if (opened.why === 'repeated') return this.#repeat(opened.jobId);
    if (opened.why === 'insufficient-balance') throw insufficientBalance(this.#cap(), opened.balance, formatMoney);
    throw new ApiError({
      status: 402,
      type: 'insufficient_quota',
      code: 'daily_cap_reached',
      message: `This may cost up to ${formatMoney(this.#cap())} and this key may spend ${formatMoney(opened.balance)} more today (UTC).`,
    });
  }

  async *answers(): AsyncGenerator<StreamStep> {
    let text = '';
    for (;;) {
      const event = await this.#nextEvent(text === '');
      const by = this.#by();
      if (event.type === 'delta') {
        if (event.text === '') continue;
        this.#try?.spoke();
        text += event.text;
        yield { type: 'delta', by, text: event.text };
        // A failure shows where it is waited for.
        this.#keepInput().catch(() => undefined);
        continue;
      }
      const { output } = event;
      if (output.kind === 'chat' && !output.text.startsWith(text))
        throw this.#forged('The node committed to another text than it sent.');
      // What is left is ours to do. One that does not hold is a refusal all the same.
      this.#try?.spoke();
      await this.#commit(event);
      this.#try?.answered();
      if (output.kind === 'chat') this.#keepPrefix(output.text);
      const rest = output.kind === 'chat' ? output.text.slice(text.length) : '';
      if (rest !== '' && text !== '') yield { type: 'delta', by, text: rest };
      yield { type: 'done', by, jobId: this.#request.requestId, output };
      return;
    }
  }

  /** Whatever way it ends: no node goes on working, no hold stays. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#try?.ended(false);
    this.#next?.catch(() => undefined);
    if (this.#open) {
      this.#open = false;
      await this.#ports.jobs.failStream(this.#lease, this.#failure.code, this.#failure.message);
    }
    // The iterator ends by the abort above; waiting for it would keep the requester waiting for the node.
    void this.#events?.return?.().catch((error: unknown) => this.#ports.report('closing a stream', error));
  }

  #keepPrefix(answer: string): void {
    const { orgId, model, work } = this.#request;
    this.#ports.prefixes?.answered(orgId, model, work, answer, this.#candidate?.nodeId ?? '');
  }

  /** Begun when the first words have left, because the disk has nothing to do with them. Awaited before anything is billed. */
  #keepInput(): Promise<unknown> {
    const { requestId, line } = this.#request;
    this.#input ??= this.#ports.objects.append(inputObject(requestId), 0, [new TextEncoder().encode(line)]);
    return this.#input;
  }

  #send(candidate: StreamCandidate, nonce: string): void {
    this.#candidate = candidate;
    this.#try = this.#ports.tries?.asks(candidate.nodeId) ?? null;
    const adapter = adapterOf(this.#request.work);
    if (adapter !== null) this.#ports.desk?.lend(candidate.nodeId, [adapter]);
    const grant = {
      ...this.#lease,
      nodeId: candidate.nodeId,
      nonce,
      model: this.#request.model,
      digest: candidate.digest,
      engineClass: candidate.engineClass,
      rates: candidate.rates,
      rows: 1,
    };
    this.#events = this.#ports.link.runStream(grant, this.#request.work, this.#signal)[Symbol.asyncIterator]();
    this.#next = this.#events.next();
    this.#next.catch(() => undefined);
  }

  /** The next event; while nothing was sent to the requester, another node is tried when this one refuses. */
  async #nextEvent(mayMove: boolean): Promise<StreamEvent> {
    for (;;) {
      try {
        const next = await (this.#next ?? this.#events?.next());
        this.#next = null;
        if (next === undefined || next.done === true)
          throw new StreamRefused('ENDED', 'The node ended the stream without an answer.', mayMove);
        return next.value;
      } catch (error) {
        // Of a request that was given up early nobody knows whether it would have been answered. What a node calls the requester's fault
        // counts: whoever says so of every request would else be asked first for ever, and who answers the next one begins anew.
        this.#try?.ended(mayMove && !this.#signal.aborted);
        if (!(error instanceof StreamRefused)) throw this.#failed('node_failed', 'The node could not be heard.', error);
        if (this.#signal.aborted) throw this.#failed('request_aborted', 'The request was given up.', error);
        // The code is the node's own word: it goes into messages and columns.
        const code = printable(error.code, 64);
        this.#refusals.push({ node: this.#candidate?.nodeId ?? '', code });
        if (!mayMove || !error.retry) throw this.#failed('node_failed', `The node gave no answer (${code}).`, error);
        await this.#move(code);
      }
    }
  }

  async #move(refusal: string): Promise<void> {
    const next = this.#choice.candidates[this.#refusals.length];
    if (next === undefined) {
      this.#failure = { code: 'no_capacity', message: 'No node took the request.' };
      throw noCapacity(this.#request, this.#choice, this.#refusals, this.#freeInS());
    }
    const nonce = toHex(this.#ports.entropy.bytes(NONCE_BYTES));
    const moved = await this.#ports.jobs.moveStream(this.#lease, refusal, { ...leaseOf(next), nonce }, STREAM_MS_MAX);
    if (moved === null)
      throw this.#failed('lease_lost', 'The request was taken from us while another node was being asked.');
    this.#lease = moved;
    this.#send(next, nonce);
  }

  /** Checks the answer as every row is checked, makes it durable, and files it for verification and charge. */
  async #commit(event: Extract<StreamEvent, { type: 'done' }>): Promise<void> {
    const { output, root, signature } = event;
    const leafHash = rowLeafHash(this.#lease.task, 0, this.#request.work, output);
    const fault = rowFault(this.#request.work, output) ?? (await this.#commitmentFault(event, leafHash));
    if (fault !== null) throw this.#forged(`The node's answer does not hold: ${fault}.`);
    const piece = new TextEncoder().encode(JSON.stringify(output));
    const [drawHeight] = await Promise.all([
      this.#height(),
      this.#ports.objects.append(segmentObject(this.#lease), 0, [piece]),
      this.#keepInput(),
    ]);
    const row = {
      rowNo: 0,
      offset: 0,
      length: piece.length,
      leafHash,
      succeeded: output.kind !== 'failed',
      usage: usageOf(output),
    };
    const moved = await this.#ports.leases.checkpoint(this.#lease, [row], {
      n: 1,
      root,
      signature,
      last: true,
      drawHeight,
    });
    if (!moved.moved) throw this.#failed('lease_lost', 'The request was taken from its node before it answered.');
    this.#open = false;
    const lease = { ...this.#lease, nodeId: this.#candidate?.nodeId ?? '' };
    // The verdict countersigns again: a node that misses this one gets it with its receipt.
    if (drawHeight === null) return;
    countersign(this.#ports, lease, root, drawHeight).catch((error: unknown) =>
      this.#ports.report('countersigning an answer', error),
    );
  }

  /** Of the nodes that were asked and had no room; requests under way as they said last. */
  #freeInS(): number | null {
    const underWay = this.#choice.candidates.reduce((sum, { busyChats }) => sum + busyChats, 0);
    return this.#ports.pace?.freeInS(this.#request.model, underWay) ?? null;
  }

  /** A chain that is away costs no answer: the verdict then names the height, later than the commitment all the same. */
  async #height(): Promise<bigint | null> {
    try {
      return await this.#ports.blocks.height();
    } catch (error) {
      this.#ports.report('asking the chain for its height', error);
      return null;
    }
  }

  async #commitmentFault(
    { root, signature }: Extract<StreamEvent, { type: 'done' }>,
    leafHash: Uint8Array,
  ): Promise<string | null> {
    const tree = new GrowingTree();
    tree.addHash(leafHash);
    const own = toHex(tree.root());
    if (own !== root) return `its root is ${root.slice(0, 12)}…, what it sent hashes to ${own.slice(0, 12)}…`;
    const message = { task: toHex(taskIdBytes(this.#lease.task)), epoch: BigInt(this.#lease.epoch), n: 1n, root };
    const signer = await this.#ports.signatures.recover('LeaseCheckpoint', message, signature);
    return signer === this.#candidate?.address ? null : 'its signature is not the node’s';
  }

  async #repeat(jobId: string): Promise<StreamStep> {
    const answer = await this.#ports.jobs.streamAnswer(this.#request.orgId, jobId);
    if (answer === null || answer.piece === null) {
      throw new ApiError({
        status: 409,
        type: 'idempotency_error',
        code: 'request_in_progress',
        message: 'The first request with this identity is still running: ask again in a moment.',
        retryAfterS: 1,
      });
    }
    const [piece] = await this.#ports.objects.readPieces(segmentObject(answer.lease), [answer.piece]);
    return { type: 'done', by: answer, jobId, output: outputOf(piece) };
  }

  #newStream(candidate: StreamCandidate, nonce: string): NewStream {
    const { requestId, orgId, keyId, kind, endpoint, model, metadata, terms, identity, line } = this.#request;
    return {
      ...leaseOf(candidate),
      nonce,
      jobId: requestId,
      taskId: this.#lease.task,
      orgId,
      keyId,
      kind,
      endpoint,
      model,
      metadata,
      verify: terms.verify,
      region: terms.region,
      cap: this.#cap(),
      rateCaps: highestOf(this.#choice.candidates.map(({ rates }) => rates)),
      inputLength: Buffer.byteLength(line),
      leaseMs: STREAM_MS_MAX,
      identity,
    };
  }

  /** Covers every node that may be tried. */
  #cap(): Amount {
    return this.#choice.candidates.map(({ cost }) => cost).reduce((a, b) => (a > b ? a : b), 0n);
  }

  #by(): RanBy {
    return { digest: this.#candidate?.digest ?? '', engineClass: this.#candidate?.engineClass ?? '' };
  }

  /** As good as none: it is asked after all others for a while. */
  #forged(message: string): ApiError {
    this.#try?.ended(true);
    return this.#failed('forged_answer', message);
  }

  #failed(code: string, message: string, cause?: unknown): ApiError {
    this.#failure = { code, message };
    const error = new ApiError({
      status: 502,
      type: 'server_error',
      code,
      message: `${message} Nothing was charged.`,
      retryAfterS: 1,
    });
    if (cause !== undefined) error.cause = cause;
    return error;
  }
}

function leaseOf({ nodeId, digest, engineClass, rates }: StreamCandidate): Omit<StreamLease, 'nonce'> {
  return { nodeId, digest, engineClass, rates };
}

/** A version 4 uuid. */
function uuidOf(random: Uint8Array): string {
  const bytes = Uint8Array.from(random);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = toHex(bytes).slice(2);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
