/**
 * What a process has to know of itself and of others on this machine, without any adapter: commands that only look at a
 * folder answer at once.
 */
export { endWithParent } from './embedded/children.ts';
export { outliveFullLog } from './embedded/child-log.ts';
export {
  asIdentity as asProcess,
  identityOf as processOf,
  isAlive,
  signalProcess,
  type ProcessIdentity,
} from './embedded/process-identity.ts';

/** The endpoint of the chain, where a command names none. */
export function rpcUrlGiven(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  return environment['RPC_URL'] || undefined;
}
