import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { computeEscrowAbi } from '@freehold/contracts';
import { encodeAbiParameters, encodeEventTopics, type Hex } from 'viem';
import { EscrowClient } from './escrow-client.ts';

const ESCROW = `0x${'e5'.repeat(20)}` as Hex;
const BOOK = `0x${'b0'.repeat(32)}` as Hex;

interface Log {
  readonly address: string;
  readonly topics: readonly unknown[];
  readonly removed: boolean;
  readonly logIndex: string;
  readonly [field: string]: unknown;
}

/** A bond of 7 into the book, as an endpoint tells it. */
function bond(logIndex: number, change: Partial<Log> = {}, book = BOOK): Log {
  return {
    address: ESCROW,
    topics: encodeEventTopics({ abi: computeEscrowAbi, eventName: 'BondAdded', args: { book, from: ESCROW } }),
    data: encodeAbiParameters([{ type: 'uint256' }], [7n]),
    blockNumber: '0x9',
    blockHash: `0x${'99'.repeat(32)}`,
    transactionHash: `0x${'77'.repeat(32)}`,
    transactionIndex: '0x0',
    removed: false,
    ...change,
    logIndex: `0x${logIndex.toString(16)}`,
  };
}

describe('events of the escrow', () => {
  let endpoint: Server;
  let logs: readonly Log[] = [];
  beforeAll(async () => {
    endpoint = createServer((request, response) => {
      request
        .on('data', () => undefined)
        .on('end', () => {
          response.setHeader('content-type', 'application/json');
          response.end(JSON.stringify({ jsonrpc: '2.0', id: 1, result: logs }));
        });
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => endpoint.once('listening', resolve));
  });
  afterAll(() => new Promise((resolve) => endpoint.close(resolve)));

  it('are of our book in our escrow and on the chain, whatever else an endpoint answers with', async () => {
    const rpcUrl = `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}`;
    logs = [
      bond(0),
      bond(1, { address: `0x${'66'.repeat(20)}` }),
      bond(2, {}, `0x${'b1'.repeat(32)}`),
      bond(3, { removed: true }),
      bond(4, { blockHash: null, blockNumber: null }),
      bond(5, { topics: [`0x${'00'.repeat(32)}`, BOOK] }),
    ];
    const events = await new EscrowClient({ rpcUrl, escrow: ESCROW, book: BOOK }).events(0n, 9n);
    expect(events).toEqual([
      { name: 'BondAdded', amount: 7n, blockNumber: 9n, blockHash: `0x${'99'.repeat(32)}`, logIndex: 0 },
    ]);
  });
});
