import { createHash } from 'node:crypto';
import {
  cancelBatch,
  fileObject,
  submitBatch,
  type FileStore,
  type JobView,
  type SubmitBatchPorts,
} from '@freehold/market';
import { ApiError } from '@freehold/protocol';
import type { Dice } from './dice.ts';
import type { MemoryObjectStore } from './memory/memory-files.ts';
import { MODEL } from './row-truth.ts';
import type { VirtualTime } from './virtual-time.ts';

export interface Request {
  readonly name: string;
  readonly rows: number;
  /** Cancelled so long after it was taken; null: never. */
  readonly cancelAfterMs: number | null;
  readonly window: string;
  readonly verify: string;
  /** Sends the same request so many times at once, as clients do that heard nothing. */
  readonly tries: number;
  /** Begins on so many nodes at once; absent: on any. */
  readonly nodes?: number;
  /** What the whole of it may cost, as its metadata says it. */
  readonly maxCost?: string;
}

export interface ApiPorts extends SubmitBatchPorts {
  /** The stores themselves: what is uploaded is uploaded. */
  readonly memory: MemoryObjectStore;
  readonly known: FileStore;
}

/** Deposits are read by then, or never. */
const FUNDED_BY_MS = 60_000;

/** Somebody who wants rows: uploads, submits until an answer comes, sometimes thinks better of it. */
export class SimRequester {
  readonly orgId: string;
  readonly wallet: string;
  readonly isSelfCustody: boolean;
  readonly deposit: bigint;
  readonly requests: readonly Request[];
  readonly jobs = new Map<string, string>();
  readonly refused: string[] = [];
  readonly #time: VirtualTime;
  readonly #dice: Dice;
  /** The api as it is reached now: it may be down. */
  readonly #api: () => ApiPorts | null;
  readonly #report: (what: string, error: unknown) => void;

  constructor(parts: {
    orgId: string;
    wallet: string;
    isSelfCustody: boolean;
    deposit: bigint;
    requests: readonly Request[];
    time: VirtualTime;
    dice: Dice;
    api: () => ApiPorts | null;
    report: (what: string, error: unknown) => void;
  }) {
    this.orgId = parts.orgId;
    this.wallet = parts.wallet;
    this.isSelfCustody = parts.isSelfCustody;
    this.deposit = parts.deposit;
    this.requests = parts.requests;
    this.#time = parts.time;
    this.#dice = parts.dice;
    this.#api = parts.api;
    this.#report = parts.report;
  }

  get isServed(): boolean {
    return this.requests.every(({ name }) => this.jobs.has(name) || this.refused.includes(name));
  }

  live(): void {
    for (const request of this.requests) {
      const texts = Array.from(
        { length: request.rows },
        (_, i) => `${this.orgId} ${request.name} row ${i} ${this.#dice.hex(this.#dice.between(2, 20))}`,
      );
      const startMs = this.#dice.between(2_500, 12_000);
      this.#time.after(startMs, () => {
        for (let copy = 0; copy < request.tries; copy += 1) void this.#submit(request, texts);
      });
    }
  }

  async #submit(request: Request, texts: readonly string[]): Promise<void> {
    for (;;) {
      try {
        const answer = await Promise.race([this.#ask(request, texts), this.#patience()]);
        if (answer !== null) return this.#taken(request, answer);
      } catch (error) {
        const isEarly = error instanceof ApiError && error.status === 402 && this.#time.nowMs < FUNDED_BY_MS;
        if (error instanceof ApiError && !isEarly) return void this.refused.push(request.name);
        if (!isEarly) this.#report(`submitting ${request.name}`, error);
      }
      await this.#time.sleep(1_000 + this.#dice.unit() * 1_000);
    }
  }

  /** One try; null when the api is down. */
  async #ask(request: Request, texts: readonly string[]): Promise<JobView | null> {
    const api = this.#api();
    if (api === null) return null;
    const fileId = `file-${createHash('sha256').update(`${this.orgId} ${request.name}`).digest('hex').slice(0, 24)}`;
    await this.#upload(api, fileId, texts);
    const { window: completion_window, verify, nodes, maxCost } = request;
    const metadata = {
      verify,
      ...(maxCost === undefined ? {} : { max_cost: maxCost }),
      // Nodes come and go: so many may be there later.
      ...(nodes === undefined ? {} : { nodes: String(nodes), wait: 'true' }),
    };
    const body = { input_file_id: fileId, endpoint: '/v1/embeddings', completion_window, metadata };
    const bodyHash = createHash('sha256').update(JSON.stringify(body)).digest();
    const identity = { key: `key:${request.name}`, route: '/v1/batches', bodyHash, replayWithinMs: 86_400_000 };
    return submitBatch(api, { orgId: this.orgId, keyId: 'key', body, nowMs: this.#time.nowMs, identity });
  }

  async #upload(api: ApiPorts, fileId: string, texts: readonly string[]): Promise<void> {
    if ((await api.files.get(this.orgId, fileId)) !== null) return;
    const lines = texts.map((input, i) =>
      JSON.stringify({ custom_id: `row-${i}`, method: 'POST', url: '/v1/embeddings', body: { model: MODEL, input } }),
    );
    const bytes = new TextEncoder().encode(`${lines.join('\n')}\n`);
    await api.memory.put(fileObject(fileId), once(bytes), bytes.length);
    const file = {
      id: fileId,
      orgId: this.orgId,
      purpose: 'batch',
      filename: 'in.jsonl',
      bytes: bytes.length,
      sha256: new Uint8Array(32),
      expiresInMs: null,
    };
    // A copy of this client may have been faster.
    if ((await api.known.get(this.orgId, fileId)) === null) await api.known.insert(file, null);
  }

  #taken(request: Request, job: JobView): void {
    const known = this.jobs.get(request.name);
    if (known !== undefined && known !== job.id)
      this.#report('submitting', new Error(`one key, two jobs: ${known} and ${job.id}`));
    this.jobs.set(request.name, job.id);
    if (request.cancelAfterMs !== null) this.#time.after(request.cancelAfterMs, () => void this.#cancel(job.id));
  }

  async #cancel(jobId: string): Promise<void> {
    try {
      const api = this.#api();
      if (api !== null) await cancelBatch(api.jobs, this.orgId, jobId);
    } catch (error) {
      if (!(error instanceof ApiError)) this.#report('cancelling', error);
    }
  }

  /** A client gives up waiting for an answer, and asks again. */
  async #patience(): Promise<null> {
    await this.#time.sleep(3_000);
    return null;
  }
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}
