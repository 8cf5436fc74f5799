import type { Amount } from '@freehold/domain';
import { API_KEY_BYTES, apiKeyHash, apiKeyHint, apiKeyOf, type Scope } from '@freehold/protocol';
import type { AccountStore, Trust } from './ports/account-store.ts';
import type { Entropy } from './ports/surroundings.ts';

export interface CreateKeyPorts {
  readonly accounts: AccountStore;
  readonly entropy: Entropy;
}

/** Makes an API key. The key itself is in the answer and nowhere else, ever. */
export async function createKey(
  ports: CreateKeyPorts,
  of: { readonly orgId: string; readonly scopes?: readonly Scope[]; readonly dailyCap?: Amount | null },
): Promise<{ readonly id: string; readonly key: string }> {
  const key = apiKeyOf(ports.entropy.bytes(API_KEY_BYTES));
  const id = await ports.accounts.createKey({
    orgId: of.orgId,
    hash: apiKeyHash(key),
    hint: apiKeyHint(key),
    scopes: of.scopes ?? ['all'],
    dailyCap: of.dailyCap ?? null,
  });
  return { id, key };
}

/** An organisation, with operator credits when the operator grants some. */
export async function createOrg(
  ports: CreateKeyPorts,
  org: { readonly name: string; readonly trust?: Trust; readonly wallet?: string | null; readonly credit?: Amount },
): Promise<{ readonly orgId: string }> {
  const orgId = await ports.accounts.createOrg({
    name: org.name,
    trust: org.trust ?? 'operator-credits',
    wallet: org.wallet ?? null,
  });
  if (org.credit !== undefined && org.credit > 0n) await ports.accounts.credit(orgId, org.credit, `welcome/${orgId}`);
  return { orgId };
}
