import { readdirSync, readFileSync } from 'node:fs';

/** @typedef {ReturnType<ReturnType<typeof stopwatch>>} Spent */

/** CPU-seconds (user + system, children that ended included) of this process and everything below it. */
export function cpuSecondsOfTree() {
  return [...cpuSecondsByCommand().values()].reduce((sum, seconds) => sum + seconds, 0);
}

/** The same, by the name of the program; what ended is counted with its parent. */
export function cpuSecondsByCommand() {
  // A process that ends while all are read is in nobody's account yet: then they are read again.
  let read = ticksOfAll();
  for (let again = 0; read.hasLost && again < READINGS_MAX; again += 1) read = ticksOfAll();
  const { stats } = read;
  /** @type {Map<string, number>} */
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

const READINGS_MAX = 20;

function ticksOfAll() {
  /** @type {Map<number, { command: string; parent: number; ticks: number }>} */
  const stats = new Map();
  let hasLost = false;
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
      // It ended between the listing and the reading.
      hasLost = true;
    }
  }
  return { stats, hasLost };
}

/** Starts now; each call says how many seconds went by since, and how many CPU-seconds each program spent in them. */
export function stopwatch() {
  const [cpuBefore, before] = [cpuSecondsByCommand(), performance.now()];
  return () => {
    const wall = (performance.now() - before) / 1_000;
    const spent = [...cpuSecondsByCommand()].map(
      ([command, cpu]) => /** @type {const} */ ([command, cpu - (cpuBefore.get(command) ?? 0)]),
    );
    const cpu = spent.reduce((sum, [, seconds]) => sum + seconds, 0);
    return { wall, cpu, byCommand: spent.filter(([, seconds]) => seconds >= 0.01) };
  };
}

/**
 * What several took one after the other.
 *
 * @param {readonly Spent[]} all
 * @returns {Spent}
 */
export function together(all) {
  /** @type {Map<string, number>} */
  const byCommand = new Map();
  for (const one of all)
    for (const [command, seconds] of one.byCommand) byCommand.set(command, (byCommand.get(command) ?? 0) + seconds);
  const sum = (/** @type {'wall' | 'cpu'} */ key) => all.reduce((total, one) => total + one[key], 0);
  return { wall: sum('wall'), cpu: sum('cpu'), byCommand: [...byCommand] };
}

/**
 * "2.10 s, 1.95 CPU-s (node 1.20, postgres 0.75)".
 *
 * @param {Spent} spent
 */
export function spentText({ wall, cpu, byCommand }) {
  const each = byCommand.map(([command, seconds]) => `${command} ${seconds.toFixed(2)}`).join(', ');
  return `${wall.toFixed(2)} s, ${cpu.toFixed(2)} CPU-s (${each})`;
}

/**
 * For the line of JSON.
 *
 * @param {Pick<Spent, 'wall' | 'byCommand'>} spent
 */
export function spentMetrics({ wall, byCommand }) {
  const seconds = (/** @type {number} */ value) => Math.round(100 * value) / 100;
  return {
    wallSeconds: seconds(wall),
    cpuSecondsByProcess: Object.fromEntries(byCommand.map(([command, cpu]) => [command, seconds(cpu)])),
  };
}
