import { closeSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { at } from './paths.mjs';
import { say } from './progress.mjs';

/** In node_modules, which npm leaves alone where names begin with a dot, and which no market keeps its data in. */
const FOLDER = at('node_modules');
const FILE = at('node_modules', '.freehold-launcher.lock');
const LOOK_EVERY_MS = 250;
/** A gate without a readable owner is being written right now, or its writer died in that instant. */
const UNREADABLE_AFTER_MS = 2_000;

/**
 * Installs and builds one at a time: two starts in the same checkout would write the same files. The second waits, then
 * finds the work done. A gate whose owner is dead is opened.
 *
 * @template T
 * @param {() => Promise<T>} work
 */
export async function oneAtATime(work) {
  mkdirSync(FOLDER, { recursive: true });
  let told = false;
  while (!enter()) {
    if (!told) say(`waiting: process ${owner()?.pid ?? '?'} is installing or building in this checkout`);
    told = true;
    await sleep(LOOK_EVERY_MS);
  }
  const leave = () => rmSync(FILE, { force: true });
  process.once('exit', leave);
  try {
    return await work();
  } finally {
    leave();
    process.off('exit', leave);
  }
}

function enter() {
  try {
    const file = openSync(FILE, 'wx', 0o600);
    writeSync(file, JSON.stringify({ pid: process.pid, started: startOf(process.pid) }));
    closeSync(file);
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
  }
  const holder = owner();
  if (holder === undefined) {
    const made = statSync(FILE, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    if (Date.now() - made > UNREADABLE_AFTER_MS) rmSync(FILE, { force: true });
  } else if (startOf(holder.pid) !== holder.started) {
    rmSync(FILE, { force: true });
  }
  return false;
}

/** @returns {{ pid: number; started?: string } | undefined} */
function owner() {
  try {
    return JSON.parse(readFileSync(FILE, 'utf8'));
  } catch {
    // Gone, or half-written: asked again in a moment.
    return undefined;
  }
}

/**
 * When a process started, so that a recycled number is not taken for the owner. 'alive' where the kernel does not tell.
 *
 * @param {number} pid
 */
function startOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    if (process.platform === 'linux') return undefined;
    // No /proc here: only whether it lives can be asked.
    try {
      process.kill(pid, 0);
      return 'alive';
    } catch {
      // No such process, which is the answer.
      return undefined;
    }
  }
}
