/**
 * Lines about the launcher's own work. They go to stderr: stdout belongs to what is launched (with `--json`, to JSON alone).
 *
 * @param {string} line
 */
export function say(line) {
  process.stderr.write(`${line}\n`);
}

/**
 * Seconds since `from` (a `performance.now()`), for people.
 *
 * @param {number} from
 */
export function secondsSince(from) {
  return `${((performance.now() - from) / 1000).toFixed(1)} s`;
}

/**
 * Ends the process with an explanation instead of a stack: the reader is somebody who wants to start the house.
 *
 * @param {string} message
 * @returns {never}
 */
export function giveUp(message) {
  process.stderr.write(`\n${message}\n`);
  process.exit(1);
}
