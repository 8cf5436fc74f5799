import { computeEscrowAbi } from '@freehold/contracts';
import {
  BaseError,
  ContractFunctionRevertedError,
  decodeErrorResult,
  ExecutionRevertedError,
  RawContractError,
  type Hex,
} from 'viem';

/** The contract's own error in words, or null when the endpoint failed rather than the call. */
export function revertWords(error: unknown): string | null {
  if (!(error instanceof BaseError)) return null;
  const raw = error.walk((cause) => cause instanceof RawContractError || hasData(cause));
  const data = dataOf(raw);
  if (data !== null) {
    try {
      const { errorName, args } = decodeErrorResult({ abi: computeEscrowAbi, data });
      return `${errorName}(${(args ?? []).map(String).join(', ')})`;
    } catch {
      // An error of another contract (the token): its selector has to do.
      return `revert ${data.slice(0, 10)}`;
    }
  }
  const reverted = error.walk(
    (cause) => cause instanceof ExecutionRevertedError || cause instanceof ContractFunctionRevertedError,
  );
  return reverted === null ? null : error.shortMessage;
}

function hasData(cause: unknown): boolean {
  return dataOf(cause) !== null;
}

function dataOf(cause: unknown): Hex | null {
  const data = (cause as { data?: unknown } | null)?.data;
  return typeof data === 'string' && /^0x[0-9a-f]{8,}$/i.test(data) ? (data as Hex) : null;
}
