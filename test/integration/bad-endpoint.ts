import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseTransaction, type Hex } from 'viem';

/** honest · loses the answer to a transaction it took · takes no transaction and says nothing · takes none and says yes. */
export type Mood = 'honest' | 'loses-answers' | 'loses-transactions' | 'lies';

interface Call {
  readonly id: number;
  readonly method: string;
  readonly params: readonly unknown[];
}

/** An RPC endpoint in front of a real one that misbehaves on demand. Refuses replacements below +10 %, as public nodes do. */
export class BadEndpoint {
  mood: Mood = 'honest';
  /** Every transaction that really went through, by its bytes. */
  readonly forwarded: string[] = [];
  readonly #fees = new Map<number, bigint>();
  readonly #server: Server;
  readonly #target: string;

  private constructor(target: string) {
    this.#target = target;
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  static async before(target: string): Promise<BadEndpoint> {
    const endpoint = new BadEndpoint(target);
    await new Promise<void>((resolve) => endpoint.#server.listen(0, '127.0.0.1', resolve));
    return endpoint;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const call = JSON.parse(Buffer.concat(chunks).toString()) as Call;
    if (call.method === 'eth_sendRawTransaction') return this.#take(call, response);
    await this.#pass(call, response);
  }

  async #take(call: Call, response: ServerResponse): Promise<void> {
    const raw = call.params[0] as Hex;
    if (this.mood === 'loses-transactions') return void response.destroy();
    if (this.mood === 'lies')
      return void response.end(JSON.stringify({ jsonrpc: '2.0', id: call.id, result: `0x${'11'.repeat(32)}` }));
    const { nonce = 0, maxFeePerGas = 0n } = parseTransaction(raw);
    const before = this.#fees.get(nonce) ?? 0n;
    const isSame = this.forwarded.includes(raw);
    if (!isSame && before > 0n && maxFeePerGas * 10n < before * 11n) {
      const error = { code: -32_000, message: 'replacement transaction underpriced' };
      return void response.end(JSON.stringify({ jsonrpc: '2.0', id: call.id, error }));
    }
    this.#fees.set(nonce, maxFeePerGas);
    this.forwarded.push(raw);
    if (this.mood === 'honest') return this.#pass(call, response);
    await this.#ask(call);
    response.destroy();
  }

  async #pass(call: Call, response: ServerResponse): Promise<void> {
    const answer = await this.#ask(call);
    response.setHeader('content-type', 'application/json');
    response.end(answer);
  }

  async #ask(call: Call): Promise<string> {
    const answer = await fetch(this.#target, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(call),
    });
    return answer.text();
  }
}
