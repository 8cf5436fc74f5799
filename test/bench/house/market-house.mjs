import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { House } from '../../../apps/devnet/dist/house/house.js';

/**
 * @import { NodeSpec } from '../../../apps/devnet/dist/house/house.js'
 *
 * @typedef {{ readonly house: House; readonly db: pg.Pool; readonly dataDir: string }} OpenHouse
 * @typedef {Record<string, number>} MsByPart
 * @typedef {Map<number, { parent: number; ms: number; command: string }>} Processes
 */

/**
 * A market on a folder of its own, for as long as `work` takes: embedded services, the coordinator's processes, nodes.
 *
 * @template T
 * @param {{ readonly nodes: readonly NodeSpec[]; readonly say: (text: string) => void }} options
 * @param {(open: OpenHouse) => Promise<T>} work
 */
export async function withHouse({ nodes, say }, work) {
  const dataDir = mkdtempSync(join(tmpdir(), 'freehold-bench-'));
  const house = await House.open({ dataDir, httpPort: 0, fresh: false, say });
  const db = new pg.Pool({ connectionString: house.databaseUrl, max: 2 });
  try {
    await house.startCoordinator();
    for (const spec of nodes) await house.startNode(spec);
    return await work({ house, db, dataDir });
  } finally {
    await db.end();
    await house.close();
    rmSync(dataDir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Milliseconds of processor time so far of each part of the house below this process; engines by whose they are. */
export function cpuMsByPart() {
  /** @type {Processes} */
  const processes = new Map();
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      processes.set(Number(pid), {
        parent: Number(fields[1]),
        ms: (Number(fields[11]) + Number(fields[12])) * 10,
        command,
      });
    } catch {
      // The process ended between the listing and the reading.
    }
  }
  /** @type {MsByPart} */
  const parts = {};
  for (const [pid, { ms }] of processes) {
    const part = partOf(pid, processes);
    if (part !== null) parts[part] = (parts[part] ?? 0) + ms;
  }
  return parts;
}

/**
 * Null for what is not below this process.
 *
 * @param {number} pid
 * @param {Processes} processes
 * @returns {string | null}
 */
function partOf(pid, processes) {
  if (pid === process.pid) return 'client';
  const known = processes.get(pid);
  if (known === undefined || pid <= 1) return null;
  const parent = partOf(known.parent, processes);
  if (parent === null) return null;
  const app = /apps\/(api|scheduler|node)\/dist/.exec(known.command)?.[1];
  if (app !== undefined) return app;
  if (/child-process\/child/.test(known.command)) return `engineOf${parent[0].toUpperCase()}${parent.slice(1)}`;
  if (/postgres/.test(known.command)) return 'postgres';
  return /anvil/.test(known.command) ? 'chain' : parent;
}

/**
 * @param {Iterable<number>} values
 * @param {number} share
 */
export function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
