import { codesWithin, databaseFault, ServiceFault } from '../devnet/service-fault.ts';
import { ConfigError } from '../config.ts';

const REST = ', or correct DATABASE_URL.';
/** Postgres' classes of errors that say something about the address, the user or the schema: all else is a fault of ours. */
const OF_THE_DATABASE =
  /^(28|3D|42P01|53300|57P03|ECONN|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOST|ENET|EPIPE|EAGAIN|no socket|closed socket)/;

/** What a coordinator process says when it cannot start: a line where the cause is known, a stack where it is not. */
export function startFaultText(error: unknown, databaseUrl = process.env['DATABASE_URL']): string {
  if (error instanceof ConfigError || error instanceof ServiceFault) return error.message;
  if (
    databaseUrl !== undefined &&
    URL.canParse(databaseUrl) &&
    codesWithin(error).some((code) => OF_THE_DATABASE.test(code))
  )
    return databaseFault(databaseUrl, error, REST).message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
