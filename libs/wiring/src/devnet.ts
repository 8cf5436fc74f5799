import { migrate, openDatabase } from '@freehold/persistence';

export { rpcUrls } from '@freehold/chain';
export { checkServices } from './devnet/check-services.ts';
export { prepareChain, type ChainRecord } from './devnet/prepare-chain.ts';
export { prepareRequester, type RequesterRecord } from './devnet/prepare-requester.ts';
export { serviceUrls, type ServiceUrls } from './devnet/service-urls.ts';
export { ServiceFault } from './devnet/service-fault.ts';
export { settleDevnet, type SettledDevnet } from './devnet/settle-devnet.ts';

export async function prepareDatabase(url: string): Promise<void> {
  const database = await openDatabase({ url, poolSize: 2, applicationName: 'freehold-migrate' });
  try {
    await migrate(database);
  } finally {
    await database.close();
  }
}
