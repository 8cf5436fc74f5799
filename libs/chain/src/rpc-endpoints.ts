import { http, keccak256, type EIP1193RequestFn, type Hex, type Transport } from 'viem';
import { atHead, failureOf, fingerprint, refusalOf, roadOf } from './rpc-answers.ts';

export interface RpcEndpointsOptions {
  /** The chain that every endpoint must serve; unknown when absent, and then only compared. */
  readonly chainId?: number;
  /** Told when an endpoint is set aside or comes back, and when endpoints disagree. */
  readonly note?: (note: EndpointNote) => void;
  readonly timeoutMs?: number;
  /** Between two tries to make endpoints agree; tests shorten it. */
  readonly pauseMs?: number;
}

export interface EndpointNote {
  /** Its place in the list and its host: the rest of the URL may be a secret. */
  readonly endpoint: string;
  readonly what: 'set aside' | 'back' | 'disagrees';
  readonly why: string;
}

/** Endpoints did not agree, or too few answered. Nothing may be concluded; whoever asked asks again later. */
export class RpcDisagreement extends Error {
  constructor(method: string, opinions: readonly string[]) {
    super(
      `RPC endpoints do not agree on ${method}: ${opinions.join('; ')}. Nothing is booked or sent on one endpoint's word; remove the wrong one from RPC_URL, or wait for it.`,
    );
    this.name = 'RpcDisagreement';
  }
}

const TIMEOUT_MS = 10_000;
/** Endpoints see a new block at different moments: asked again so often before they are said to disagree. */
const TRIES = 3;
const PAUSE_MS = 200;
/** Answers in a row that were missing or different until an endpoint is set aside, and for how long. */
const STRIKES_MAX = 3;
const ASIDE_MS = 30_000;
/** Blocks behind the others: a minute on a chain of 12 s. */
const STALE_BLOCKS = 5n;

type Params = readonly unknown[];
interface Endpoint {
  readonly name: string;
  readonly ask: (method: string, params: Params) => Promise<unknown>;
  strikes: number;
  asideUntilMs: number;
  isAside: boolean;
  knowsChain: boolean;
}
interface Opinion {
  readonly endpoint: Endpoint;
  readonly print: string;
  readonly result?: unknown;
  /** A refusal (a revert) is an answer as well: it is thrown again when it wins. */
  readonly error?: Error;
}

/**
 * Several RPC endpoints of one chain as one. What money depends on (blocks, receipts, logs, reads of contracts, nonces) counts
 * when a majority, and never fewer than two, say the same at the same block; transactions are told to all.
 *
 * An endpoint that fails, lags, lies or serves another chain is named, and left out while the others suffice.
 */
export class RpcEndpoints {
  readonly #endpoints: readonly Endpoint[];
  readonly #quorum: number;
  readonly #options: RpcEndpointsOptions;

  constructor(urls: readonly string[], options: RpcEndpointsOptions = {}) {
    if (urls.length === 0) throw new RangeError('Expected at least one RPC endpoint.');
    this.#options = options;
    this.#quorum = urls.length === 1 ? 1 : Math.max(2, Math.floor(urls.length / 2) + 1);
    this.#endpoints = urls.map((url, i) => endpointOf(url, i, options.timeoutMs ?? TIMEOUT_MS));
  }

  /** For viem's clients. */
  get transport(): Transport {
    const request = (({ method, params }: { readonly method: string; readonly params?: Params }) =>
      this.request(method, params ?? [])) as EIP1193RequestFn;
    return () => ({
      config: { key: 'endpoints', name: 'RPC endpoints', type: 'endpoints', request, retryCount: 0 },
      request,
    });
  }

  async request(method: string, params: Params): Promise<unknown> {
    const [only] = this.#endpoints;
    if (only !== undefined && this.#endpoints.length === 1) return only.ask(method, params);
    if (method === 'eth_blockNumber') return toHex(await this.#head());
    const road = roadOf(method);
    if (road === 'told') return this.#tell(method, params);
    if (road === 'first') return this.#first(method, params);
    if (road === 'known') return this.#known(method, params);
    const about = method === 'eth_getLogs' ? await this.#logsUpToHead(params) : await this.#atHead(method, params);
    return this.#compare(method, about);
  }

  /** The highest block that enough endpoints have reached. */
  async #head(): Promise<bigint> {
    const { answers, failures } = await this.#askAll('eth_blockNumber', []);
    const heights = answers.map(({ endpoint, result }) => ({ endpoint, height: BigInt(result as string) }));
    heights.sort((a, b) => (a.height < b.height ? 1 : a.height > b.height ? -1 : 0));
    const agreed = heights[this.#quorum - 1];
    if (agreed === undefined) throw new RpcDisagreement('the head', failures);
    const newest = heights[0]?.height ?? agreed.height;
    for (const { endpoint, height } of heights) {
      // Of two nobody knows whether one lags or the other runs ahead: the lower one is named, and waited for.
      if (height + STALE_BLOCKS < (this.#endpoints.length === 2 ? newest : agreed.height))
        this.#setAside(endpoint, `is stale: at block ${height} while others are at ${newest}`);
      else if (height > agreed.height + STALE_BLOCKS && this.#endpoints.length > 2)
        this.#setAside(endpoint, `is alone ahead: at block ${height} while others are at ${agreed.height}`);
    }
    return agreed.height;
  }

  async #atHead(method: string, params: Params): Promise<Params> {
    if (atHead(method, params, '0x0') === null) return params;
    return atHead(method, params, toHex(await this.#head())) ?? params;
  }

  async #logsUpToHead(params: Params): Promise<Params> {
    const [filter] = params as readonly [Readonly<Record<string, unknown>> | undefined];
    if (filter === undefined || 'blockHash' in filter) return params;
    if (filter['toBlock'] !== undefined && filter['toBlock'] !== 'latest') return params;
    return [{ ...filter, toBlock: toHex(await this.#head()) }];
  }

  async #compare(method: string, params: Params): Promise<unknown> {
    for (let attempt = 1; ; attempt += 1) {
      const { answers, failures } = await this.#askAll(method, params);
      const groups = grouped(answers);
      const won = [...groups.values()].find((group) => group.length >= this.#quorum);
      if (won !== undefined) {
        for (const answer of answers) {
          if (won.includes(answer)) this.#agree(answer.endpoint);
          else this.#setAside(answer.endpoint, `says otherwise than ${won.length} others on ${method}`);
        }
        const [first] = won;
        if (first?.error !== undefined) throw first.error;
        return first?.result;
      }
      if (attempt < TRIES) {
        await pause(this.#options.pauseMs ?? PAUSE_MS);
        continue;
      }
      // A receipt that not enough of them have is none yet: the transaction is waited for, and sent again as it is.
      if (method === 'eth_getTransactionReceipt' && groups.has('null')) return this.#noReceiptYet(answers);
      const opinions = answers.map(({ endpoint, print }) => `${endpoint.name} says ${print.slice(0, 120)}`);
      for (const { endpoint } of answers) this.#strike(endpoint, `disagrees on ${method}`);
      throw new RpcDisagreement(method, [...opinions, ...failures]);
    }
  }

  #noReceiptYet(answers: readonly Opinion[]): null {
    for (const { endpoint, print } of answers) {
      if (print === 'null') continue;
      this.#note({
        endpoint: endpoint.name,
        what: 'disagrees',
        why: 'it alone has a receipt for a transaction of ours',
      });
    }
    return null;
  }

  async #first(method: string, params: Params): Promise<unknown> {
    let refusal: Error | undefined;
    const failures: string[] = [];
    for (const endpoint of this.#usable()) {
      try {
        return await this.#askOne(endpoint, method, params);
      } catch (error) {
        // A call that one says would revert is tried with the next: one alone can neither send us nor stop us.
        const said = refusalOf(error);
        if (said !== null) refusal ??= said.error;
        else failures.push(`${endpoint.name}: ${failureOf(error)}`);
      }
    }
    if (refusal !== undefined) throw refusal;
    throw new RpcDisagreement(method, failures);
  }

  async #known(method: string, params: Params): Promise<unknown> {
    const { answers, failures } = await this.#askAll(method, params);
    if (answers.length === 0) throw new RpcDisagreement(method, failures);
    return answers.find(({ print }) => print !== 'null')?.result ?? null;
  }

  /** To all, also to those set aside: the more know a transaction, the better. Taken when one of them takes it. */
  async #tell(method: string, params: Params): Promise<unknown> {
    const told = await Promise.allSettled(this.#endpoints.map(({ ask }) => ask(method, params)));
    if (told.some(({ status }) => status === 'fulfilled')) return keccak256(params[0] as Hex);
    const errors = told.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []));
    throw errors.find((error) => /known|nonce|underpriced/i.test(failureOf(error))) ?? errors[0];
  }

  async #askAll(
    method: string,
    params: Params,
  ): Promise<{ readonly answers: readonly Opinion[]; readonly failures: readonly string[] }> {
    const failures: string[] = [];
    const asked = this.#usable().map(async (endpoint): Promise<Opinion | null> => {
      try {
        const result = await this.#askOne(endpoint, method, params);
        return { endpoint, print: fingerprint(method, result), result };
      } catch (error) {
        const refusal = refusalOf(error);
        if (refusal !== null) return { endpoint, ...refusal };
        failures.push(`${endpoint.name} fails: ${failureOf(error)}`);
        return null;
      }
    });
    return { answers: (await Promise.all(asked)).filter((answer) => answer !== null), failures };
  }

  async #askOne(endpoint: Endpoint, method: string, params: Params): Promise<unknown> {
    try {
      await this.#meet(endpoint);
      return await endpoint.ask(method, params);
    } catch (error) {
      if (refusalOf(error) === null) this.#strike(endpoint, failureOf(error));
      throw error;
    }
  }

  /** Before its first word counts, an endpoint says which chain it serves. */
  async #meet(endpoint: Endpoint): Promise<void> {
    if (endpoint.knowsChain || this.#options.chainId === undefined) return;
    const served = Number(await endpoint.ask('eth_chainId', []));
    if (served !== this.#options.chainId) {
      endpoint.strikes = STRIKES_MAX;
      throw new Error(`it serves chain ${served}, expected ${this.#options.chainId}`);
    }
    endpoint.knowsChain = true;
  }

  /** Without those set aside, unless too few are left to agree: then all are asked again. */
  #usable(): readonly Endpoint[] {
    const now = performance.now();
    const inGoodStanding = this.#endpoints.filter(({ isAside, asideUntilMs }) => !isAside || now >= asideUntilMs);
    return inGoodStanding.length >= this.#quorum ? inGoodStanding : this.#endpoints;
  }

  #strike(endpoint: Endpoint, why: string): void {
    endpoint.strikes += 1;
    if (endpoint.strikes >= STRIKES_MAX) this.#setAside(endpoint, why);
  }

  /** At once for what no honest endpoint does; what may be a bad moment of the network is counted first. */
  #setAside(endpoint: Endpoint, why: string): void {
    endpoint.asideUntilMs = performance.now() + ASIDE_MS;
    // Another service may answer there when it is asked again.
    endpoint.knowsChain = false;
    if (endpoint.isAside) return;
    endpoint.isAside = true;
    this.#note({ endpoint: endpoint.name, what: 'set aside', why });
  }

  #agree(endpoint: Endpoint): void {
    endpoint.strikes = 0;
    // One that is asked because the others do not suffice stays aside for its time: it is not said to be well every second.
    if (!endpoint.isAside || performance.now() < endpoint.asideUntilMs) return;
    endpoint.isAside = false;
    this.#note({ endpoint: endpoint.name, what: 'back', why: 'it says what the others say' });
  }

  #note(note: EndpointNote): void {
    this.#options.note?.(note);
  }
}

/** `RPC_URL` as people write it: one, or several with commas between. */
export function rpcUrls(text: string): readonly string[] {
  return text
    .split(',')
    .map((url) => url.trim())
    .filter((url) => url !== '');
}

/** One URL (or several with commas), a list to be compared, or endpoints that a process shares between its adapters. */
export type Rpc = string | readonly string[] | RpcEndpoints;

export function rpcTransport(
  rpc: Rpc,
  options: { readonly timeoutMs: number; readonly retryCount: number },
): Transport {
  if (rpc instanceof RpcEndpoints) return rpc.transport;
  const urls = typeof rpc === 'string' ? rpcUrls(rpc) : rpc;
  const [only] = urls;
  if (only !== undefined && urls.length === 1)
    return http(only, { timeout: options.timeoutMs, retryCount: options.retryCount });
  return new RpcEndpoints(urls, { timeoutMs: options.timeoutMs }).transport;
}

function endpointOf(url: string, index: number, timeoutMs: number): Endpoint {
  const { request } = http(url, { timeout: timeoutMs, retryCount: 1 })({ retryCount: 1, timeout: timeoutMs });
  // viem's type lists the methods it knows; what we pass on are the ones its own clients asked for.
  const ask = (method: string, params: Params): Promise<unknown> => request({ method, params } as never); // typed by method
  const name = `#${index + 1} ${new URL(url).host}`;
  return { name, ask, strikes: 0, asideUntilMs: 0, isAside: false, knowsChain: false };
}

function grouped(answers: readonly Opinion[]): ReadonlyMap<string, readonly Opinion[]> {
  const groups = new Map<string, Opinion[]>();
  for (const answer of answers) groups.set(answer.print, [...(groups.get(answer.print) ?? []), answer]);
  return groups;
}

function toHex(height: bigint): string {
  return `0x${height.toString(16)}`;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
