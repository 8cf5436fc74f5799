import { BaseError, RpcRequestError } from 'viem';

/** How the answers of several endpoints become one. */
export type Road =
  /** So many must say the same that no other opinion can have as many. */
  | 'compared'
  /** Any endpoint's word will do: nothing of value hangs on it that is not bounded elsewhere. */
  | 'first'
  /** The first that knows something; null when nobody does. */
  | 'known'
  /** Told to all. */
  | 'told';

const ROADS: Readonly<Record<string, Road>> = {
  eth_chainId: 'compared',
  eth_getBlockByNumber: 'compared',
  eth_getBlockByHash: 'compared',
  eth_getTransactionReceipt: 'compared',
  eth_getLogs: 'compared',
  eth_call: 'compared',
  eth_getCode: 'compared',
  eth_getBalance: 'compared',
  eth_getTransactionCount: 'compared',
  eth_getTransactionByHash: 'known',
  eth_sendRawTransaction: 'told',
};

/** What is not named here (estimates, fees, a test chain's own methods) is asked of one endpoint: the sender has ceilings. */
export function roadOf(method: string): Road {
  return ROADS[method] ?? 'first';
}

/** Which parameter says "at which block", for the methods that have one. */
const BLOCK_AT: Readonly<Record<string, number>> = {
  eth_getBlockByNumber: 0,
  eth_call: 1,
  eth_getCode: 1,
  eth_getBalance: 1,
  eth_getTransactionCount: 1,
};

/** The same request about one block for everybody: "latest" is another block at every endpoint. Null when it asks about no head. */
export function atHead(method: string, params: readonly unknown[], head: string): readonly unknown[] | null {
  const at = BLOCK_AT[method];
  if (at === undefined) return null;
  const tag = params[at];
  if (tag !== undefined && tag !== 'latest') return null;
  return [...params.slice(0, at), head, ...params.slice(at + 1)];
}

/** What two honest endpoints say alike, however they write it. */
export function fingerprint(method: string, result: unknown): string {
  if (result === null || result === undefined) return 'null';
  const members = MEMBERS[method];
  if (members !== undefined && isRecord(result)) return said(pick(result, members));
  if (method === 'eth_getLogs' && Array.isArray(result)) return said(result.map(logOf).toSorted());
  return said(result);
}

const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  eth_getBlockByNumber: ['number', 'hash', 'parentHash', 'timestamp', 'baseFeePerGas'],
  eth_getBlockByHash: ['number', 'hash', 'parentHash', 'timestamp', 'baseFeePerGas'],
  eth_getTransactionReceipt: ['transactionHash', 'blockHash', 'blockNumber', 'status', 'gasUsed', 'logs'],
};

function pick(record: Readonly<Record<string, unknown>>, members: readonly string[]): readonly unknown[] {
  return members.map((member) => {
    const value = record[member];
    return member === 'logs' && Array.isArray(value) ? value.map(logOf) : (value ?? null);
  });
}

function logOf(log: unknown): string {
  if (!isRecord(log)) return said(log);
  return said([log['blockHash'], log['logIndex'], log['address'], log['topics'], log['data']]);
}

function said(value: unknown): string {
  return (JSON.stringify(value) ?? 'undefined').toLowerCase();
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

/** A call that would revert, as an endpoint says it: an answer, which can be compared, and thrown again when it wins. */
export interface Refusal {
  readonly print: string;
  readonly error: Error;
}

/** An endpoint that says why a call reverts has answered; one that limits, breaks off or talks nonsense has not. */
export function refusalOf(error: unknown): Refusal | null {
  if (!(error instanceof BaseError)) return null;
  const rpc = error.walk((cause) => cause instanceof RpcRequestError);
  if (!(rpc instanceof RpcRequestError)) return null;
  if (rpc.code !== 3 && !/revert/i.test(rpc.details)) return null;
  return { print: `refused ${said(rpc.data ?? rpc.details)}`, error };
}

/** Why an endpoint gave no answer, in a line: never the whole URL, which may carry a key. */
export function failureOf(error: unknown, lengthMax = 160): string {
  if (!(error instanceof Error)) return String(error);
  const text = error instanceof BaseError ? `${error.shortMessage} ${error.details}` : error.message;
  return text.replaceAll(/https?:\/\/\S+/g, '…').slice(0, lengthMax);
}
