/**
 * What a provider's node is made of, without anything of the coordinator's: no database, no queue, no Nest. Kept lean on
 * purpose: every node process pays for its imports before it earns anything.
 */
import { join } from 'node:path';
import { createSignatureCheck, createSigner } from '@freehold/chain';
import type { Engine, SignatureCheck, Signer } from '@freehold/market';
import { inventory, openAiHttpEngine, type Inventory } from '@freehold/runtime';
import { LOCAL_MODELS, startTrainerEngine, type LocalObjects } from './models.ts';

export {
  Changes,
  checkpointMessage,
  identityOf,
  NodeLink,
  offerMessage,
  type AuditCall,
  type ChatAnswer,
  type ChatCall,
  type CoordinatorNews,
  type HelloState,
  type Identity,
  type LeaseFrame,
  type NodeDuties,
  type NodeLinkOptions,
  type ProcessNote,
  type PulseState,
  type RowsCall,
  type Welcome,
} from '@freehold/p2p';
export {
  claimsHash,
  createSignatureCheck,
  createSigner,
  ExitClient,
  ExitWallet,
  NoGasError,
  stepInWords,
  WrongChainError,
  type ExitCall,
  type OrderFacts,
} from '@freehold/chain';
export { measure } from '@freehold/runtime';

/** Signing under a coordinator's chain and contract; without a contract, under the zero address: such signatures cash nothing. */
export function signingWith(privateKeyHex: string): (domain: {
  readonly chainId: number;
  readonly escrow: string | null;
}) => {
  readonly signer: Signer;
  readonly signatures: SignatureCheck;
} {
  return ({ chainId, escrow }) => {
    const domain = { chainId, escrow: escrow ?? `0x${'0'.repeat(40)}` };
    return { signer: createSigner(`0x${privateKeyHex}`, domain), signatures: createSignatureCheck(domain) };
  };
}

/**
 * The engine behind a word of `--engine`. Local models live in child processes with a memory limit; a URL is asked what it is.
 *
 * @param dir Where files that are made at first start are kept.
 */
export async function engineNamed(
  word: string,
  dir: string,
  slots: number | null,
  objects: LocalObjects,
): Promise<Engine> {
  if (word === 'trainer') return await startTrainerEngine(join(dir, 'models'), objects);
  const local = LOCAL_MODELS.find((model) => model.engine === word);
  if (local !== undefined) return await local.start(join(dir, 'models'), slots ?? undefined, objects.folder);
  return openAiHttpEngine({ url: word, ...apiKeyFrom(process.env) });
}

/** A server's key never stands in a command line, where every process of the machine can read it. */
function apiKeyFrom(environment: NodeJS.ProcessEnv): { apiKey?: string } {
  const apiKey = environment['ENGINE_API_KEY'];
  return apiKey === undefined || apiKey === '' ? {} : { apiKey };
}

export async function machine(dir: string): Promise<Inventory> {
  return await inventory(dir);
}

/** The chain and contract that the owner expects its coordinators to use; null: whatever they say. */
export function pinnedMarket(environment: NodeJS.ProcessEnv = process.env): {
  readonly chainId: number | null;
  readonly escrow: string | null;
} {
  const chainId = environment['CHAIN_ID'];
  const escrow = environment['ESCROW_ADDRESS'];
  return {
    chainId: chainId === undefined || chainId === '' ? null : Number(chainId),
    escrow: escrow === undefined || escrow === '' ? null : escrow.toLowerCase(),
  };
}
