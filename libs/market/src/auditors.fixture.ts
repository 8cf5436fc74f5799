import { chooseAuditors, type Auditors, type ChooseAuditorPorts } from './choose-auditor.ts';
import type { LeaseView } from './ports/lease-store.ts';
import type { ConnectedNode, ProviderLink } from './ports/provider-link.ts';

/** Whoever is not this lease's node, its operator or who is paid for it may audit it. */
export const LEASE = {
  nodeId: 'accused',
  address: '0xa',
  payout: '0xa',
  digest: 'd',
  engineClass: 'c',
  adapter: null,
  region: null,
  isolation: 'none',
  poolId: null,
} as LeaseView;

export function node(id: string, engineClass: string, seed: boolean, lora = false): ConnectedNode {
  const models = [{ digest: 'd', kind: 'chat', caps: { promptLogprobs: true, seed, lora } }];
  const where = { region: 'eu', isolation: 'none', pools: [] };
  const offer = {
    payout: `0x${id}`,
    ...where,
    engines: [{ class: engineClass, models }],
  } as unknown as ConnectedNode['offer']; // all that is looked at
  return { id, address: `0x${id}`, offer, freeSlots: 1, busyChats: 0, draining: false, leases: [], lastHeardMs: 0 };
}

/** Auditors among these nodes; of the rest a test names what it is about. */
export function auditorsOver(nodes: () => readonly ConnectedNode[], about: Partial<ChooseAuditorPorts> = {}): Auditors {
  return chooseAuditors({
    link: { nodes } as unknown as ProviderLink, // whoever chooses looks at nothing else of it
    localEngine: () => Promise.resolve(null),
    benched: () => Promise.resolve(new Set()),
    chance: () => 0,
    clock: { nowMs: () => 0 },
    offers: { offers: () => Promise.resolve([]) },
    unanswered: () => undefined,
    ...about,
  });
}
