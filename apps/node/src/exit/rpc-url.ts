import { OptionError } from '../options.ts';

/** Every way out needs the chain, and nothing else that somebody runs. */
export function rpcUrlOf({ rpc }: { readonly rpc?: string | undefined }): string {
  if (rpc === undefined) throw new OptionError('No RPC endpoint: give --rpc URL of the chain, or set RPC_URL.');
  return rpc;
}
