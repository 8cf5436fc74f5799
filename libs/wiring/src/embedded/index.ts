/** Embedded services and the processes of a launcher. Loads neither Nest nor a database client: an entry for launchers and tests. */
export { DEVELOPMENT_CHAIN_ID, startAnvil, type AnvilOptions, type EmbeddedAnvil } from './anvil.ts';
export { Children, endWithParent, type ChildExit, type ChildSpec, type RunningChild } from './children.ts';
export { DataFolderError, freeMibOf, openDataFolder } from './data-folder.ts';
export { freePort, isPortFree } from './free-port.ts';
export {
  isPostgresRunning,
  startPostgres,
  type EmbeddedPostgres,
  type PostgresOptions,
  type PostgresStopMode,
} from './postgres.ts';
export { holderOf, PortTakenError, refuseTakenPort } from './port-holder.ts';
export { identityOf, isAlive, stopProcess, type ProcessIdentity } from './process-identity.ts';
export { InUseError } from './run-record.ts';
export { templateDatabase, temporaryDatabase, type TemporaryDatabase } from './temporary-database.ts';
export { TEST_DATABASE_URL, testPostgres, type TestPostgres } from './test-postgres.ts';
export { testRedis, type TestRedis } from './test-redis.ts';
export { testDisk, type TestDisk } from './test-disk.ts';
