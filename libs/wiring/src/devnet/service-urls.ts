export interface ServiceUrls {
  readonly databaseUrl: string | undefined;
  readonly redisUrl: string | undefined;
  readonly rpcUrl: string | undefined;
}

/** Services of one's own, in place of those that a devnet starts for itself. A name set to nothing counts as unset. */
export function serviceUrls(environment: NodeJS.ProcessEnv = process.env): ServiceUrls {
  return {
    databaseUrl: environment['DATABASE_URL'] || undefined,
    redisUrl: environment['REDIS_URL'] || undefined,
    rpcUrl: environment['RPC_URL'] || undefined,
  };
}
