import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { keccak256, parseTransaction, type Hex } from 'viem';

/** How an endpoint misbehaves. */
export type RpcMood =
  | 'honest'
  /** Takes a transaction and breaks off before it says so. */
  | 'loses-answers'
  /** Takes no transaction and says nothing. */
  | 'loses-transactions'
  /** Takes no transaction and says that it did. */
  | 'swallows-transactions'
  /** Has a receipt for everything, in a block that does not exist. */
  | 'lies-about-receipts'
  /** Says that transactions failed which did not. */
  | 'denies-receipts'
  /** Knows other logs than the chain has. */
  | 'lies-about-logs'
  /** Has heard of no block since it got into this mood. */
  | 'stale'
  /** 429 to everything. */
  | 'limits'
  /** Breaks its answers off in the middle. */
  | 'truncates'
  /** Serves another chain. */
  | 'other-chain'
  /** Asks for a thousand times the fees. */
  | 'dear';

interface Call {
  readonly id: number;
  readonly method: string;
  readonly params: readonly unknown[];
}
interface Answer {
  readonly id: number;
  readonly jsonrpc: '2.0';
  readonly result?: unknown;
  readonly error?: unknown;
}

/** Nodes refuse a replacement that pays less than a tenth more. */
const REPLACEMENT_PERCENT = 110n;

/**
 * A JSON-RPC endpoint in front of a real one that misbehaves on demand. In every mood it enforces what public nodes do: a
 * replacement of a waiting transaction pays at least 10 % more.
 */
export class RpcFaultProxy {
  /** Every transaction that really went through, by its bytes. */
  readonly forwarded: string[] = [];
  readonly #fees = new Map<number, bigint>();
  readonly #server: Server;
  readonly #target: string;
  #mood: RpcMood = 'honest';
  #staleAt: bigint | null = null;

  private constructor(target: string) {
    this.#target = target;
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch(() => response.destroy());
    });
  }

  static async before(target: string): Promise<RpcFaultProxy> {
    const proxy = new RpcFaultProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get mood(): RpcMood {
    return this.#mood;
  }

  set mood(mood: RpcMood) {
    this.#mood = mood;
    this.#staleAt = null;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const call = JSON.parse(Buffer.concat(chunks).toString()) as Call;
    if (this.#mood === 'limits') {
      response.statusCode = 429;
      return void response.end('{"error":"too many requests"}');
    }
    const answer =
      call.method === 'eth_sendRawTransaction' ? await this.#take(call, response) : await this.#answer(call);
    if (answer === null) return;
    const text = JSON.stringify(answer);
    response.setHeader('content-type', 'application/json');
    response.end(this.#mood === 'truncates' ? text.slice(0, Math.ceil(text.length / 2)) : text);
  }

  /** Null when the connection was broken off. */
  async #take(call: Call, response: ServerResponse): Promise<Answer | null> {
    const raw = call.params[0] as Hex;
    if (this.#mood === 'loses-transactions') return breakOff(response);
    if (this.#mood === 'swallows-transactions') return { id: call.id, jsonrpc: '2.0', result: keccak256(raw) };
    const { nonce = 0, maxFeePerGas = 0n } = parseTransaction(raw);
    const before = this.#fees.get(nonce) ?? 0n;
    if (!this.forwarded.includes(raw) && maxFeePerGas * 100n < before * REPLACEMENT_PERCENT) {
      const error = { code: -32_000, message: 'replacement transaction underpriced' };
      return { id: call.id, jsonrpc: '2.0', error };
    }
    this.#fees.set(nonce, maxFeePerGas);
    this.forwarded.push(raw);
    const answer = await this.#ask(call);
    return this.#mood === 'loses-answers' ? breakOff(response) : answer;
  }

  async #answer(call: Call): Promise<Answer> {
    if (this.#mood === 'stale') return this.#answerLate(call);
    const answer = await this.#ask(call);
    const lie = LIES[this.#mood]?.[call.method];
    return lie === undefined ? answer : { ...answer, result: lie(answer.result, call.params) };
  }

  /** As an endpoint that no block reaches any more. */
  async #answerLate(call: Call): Promise<Answer> {
    this.#staleAt ??= BigInt((await this.#ask({ id: 0, method: 'eth_blockNumber', params: [] })).result as string);
    const head = `0x${this.#staleAt.toString(16)}`;
    const params = call.params.map((param) => (param === 'latest' ? head : param));
    const answer = await this.#ask({ ...call, params });
    if (call.method === 'eth_blockNumber') return { ...answer, result: head };
    const { number, blockNumber } = (answer.result ?? {}) as {
      readonly number?: string;
      readonly blockNumber?: string;
    };
    const isLater = BigInt(number ?? blockNumber ?? '0x0') > this.#staleAt;
    return isLater ? { ...answer, result: null } : answer;
  }

  async #ask(call: Call): Promise<Answer> {
    const answer = await fetch(this.#target, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', ...call }),
    });
    return (await answer.json()) as Answer;
  }
}

function breakOff(response: ServerResponse): null {
  response.destroy();
  return null;
}

type Lie = (truth: unknown, params: readonly unknown[]) => unknown;
const NO_BLOCK = `0x${'ab'.repeat(32)}`;
const DEAR = 1_000n;

const LIES: Readonly<Partial<Record<RpcMood, Readonly<Record<string, Lie>>>>> = {
  'lies-about-receipts': {
    eth_getTransactionReceipt: (truth, [hash]) => ({
      ...(truth as object | null),
      transactionHash: hash,
      blockHash: NO_BLOCK,
      blockNumber: '0x1',
      transactionIndex: '0x0',
      status: '0x1',
      gasUsed: '0x5208',
      cumulativeGasUsed: '0x5208',
      effectiveGasPrice: '0x1',
      logs: [],
      logsBloom: `0x${'00'.repeat(256)}`,
      type: '0x2',
      from: `0x${'00'.repeat(20)}`,
      to: null,
      contractAddress: null,
    }),
  },
  'denies-receipts': {
    eth_getTransactionReceipt: (truth) => (truth === null ? null : { ...(truth as object), status: '0x0', logs: [] }),
  },
  'lies-about-logs': {
    // Every amount of the last word becomes another one.
    eth_getLogs: (truth) =>
      (truth as readonly { readonly data: string }[]).map((log) => ({ ...log, data: `${log.data.slice(0, -2)}7f` })),
  },
  'other-chain': { eth_chainId: () => '0x1' },
  dear: {
    eth_maxPriorityFeePerGas: (truth) => `0x${(BigInt(truth as string) * DEAR * DEAR).toString(16)}`,
  },
};
