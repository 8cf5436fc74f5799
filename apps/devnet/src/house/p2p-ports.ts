import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isPortFree } from '@freehold/wiring/embedded';

/** The port in the first libp2p address that has one. */
export function portIn(addresses: readonly string[] | undefined): number | undefined {
  const port = addresses?.map((address) => /\/tcp\/(\d+)/.exec(address)?.[1]).find((found) => found !== undefined);
  return port === undefined ? undefined : Number(port);
}

/** Where a process of this house listened when it ran last, if nobody else does now. */
export async function rememberedPort(dataDir: string, name: string): Promise<number | undefined> {
  const port = portsIn(dataDir)[name];
  return port !== undefined && (await isPortFree(port)) ? port : undefined;
}

export function rememberPort(dataDir: string, name: string, port: number | undefined): void {
  const known = portsIn(dataDir);
  if (port === undefined || known[name] === port) return;
  writeFileSync(fileIn(dataDir), `${JSON.stringify({ ...known, [name]: port })}\n`, { mode: 0o600 });
}

/** A wish: what cannot be read is no port, and others are found. */
function portsIn(dataDir: string): Readonly<Record<string, number>> {
  try {
    const ports: unknown = JSON.parse(readFileSync(fileIn(dataDir), 'utf8'));
    const isPort = ([, port]: [string, unknown]): boolean =>
      Number.isInteger(port) && Number(port) > 0 && Number(port) < 65_536;
    return Object.fromEntries(Object.entries(ports ?? {}).filter(isPort)) as Record<string, number>; // just looked at
  } catch {
    return {};
  }
}

function fileIn(dataDir: string): string {
  return join(dataDir, 'p2p-ports.json');
}
