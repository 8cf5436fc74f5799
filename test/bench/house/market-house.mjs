import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { House } from '../../../apps/devnet/dist/house/house.js';

/** A market on a folder of its own, for as long as `work` takes: embedded services, the coordinator's processes, nodes. */
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

/** CPU-seconds (user + system, children that ended included) of this process and everything below it. */
export function cpuSecondsOfTree() {
  return [...cpuSecondsByCommand().values()].reduce((sum, seconds) => sum + seconds, 0);
}

/** The same, by the name of the program; what ended is counted with its parent. */
export function cpuSecondsByCommand() {
  const stats = new Map();
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      stats.set(Number(pid), {
        command: Number(pid) === process.pid ? 'node' : stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')')),
        parent: Number(fields[1]),
        ticks: fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0),
      });
    } catch {
      // The process ended between the listing and the reading.
    }
  }
  const seconds = new Map();
  for (const [pid, { command, ticks }] of stats) {
    for (let at = pid; at > 1; at = stats.get(at)?.parent ?? 0) {
      if (at === process.pid) {
        seconds.set(command, (seconds.get(command) ?? 0) + ticks / 100);
        break;
      }
    }
  }
  return seconds;
}

/** Milliseconds of processor time so far of each part of the house below this process; engines by whose they are. */
export function cpuMsByPart() {
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
  const parts = {};
  for (const [pid, { ms }] of processes) {
    const part = partOf(pid, processes);
    if (part !== null) parts[part] = (parts[part] ?? 0) + ms;
  }
  return parts;
}

/** Null for what is not below this process. */
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

export function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
