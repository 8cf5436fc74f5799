/**
 * Slurm's own controller over nodes that are not there: each has eight GPUs by its configuration alone, without a file of a device
 * and without a slurmd. They are cloud nodes that nobody ever starts: the controller allocates them in earnest (GPUs counted,
 * jobs in state CONFIGURING, written to its state folder) and waits for them to boot, so nothing but its placement is measured.
 */
import { execFile, spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

/**
 * @import { ChildProcess } from 'node:child_process'
 * @import { AddressInfo } from 'node:net'
 */

const run = promisify(execFile);
const PROGRAMS = ['slurmctld', 'munged', 'mungekey', 'munge', 'sbatch', 'sdiag', 'squeue', 'scontrol'];
const START_MS = 60_000;
const POLL_MS = 250;
const CPUS_PER_NODE = 64;
const TICKS_PER_SECOND = 100;

/** Which of Slurm's programs are missing from the PATH. */
export async function missingPrograms() {
  const found = await Promise.all(PROGRAMS.map((name) => run('sh', ['-c', `command -v ${name}`]).catch(() => null)));
  return PROGRAMS.filter((_, i) => found[i] === null);
}

/** `slurm-wlm 22.05.8`, as it says itself. */
export async function slurmVersion() {
  return (await run('slurmctld', ['-V'])).stdout.trim();
}

/**
 * One round on a controller of its own: `tasks` jobs of one GPU each in one array, which is how Slurm takes many alike the
 * fastest. Counts from the submission until all are allocated, or until `limitS` is over.
 *
 * @param {{ nodes: number; gpus: number; tasks: number; limitS: number }} round
 * @returns CPU-seconds of the controller in `cpu`, of munge and sbatch beside it in `mungeCpu`.
 */
export async function slurmRound({ nodes, gpus, tasks, limitS }) {
  const folder = mkdtempSync(join(tmpdir(), 'freehold-slurm-'));
  /** @type {ChildProcess[]} */
  const children = [];
  try {
    const env = await configure(folder, { nodes, gpus, tasks });
    const munged = await startMunge(folder, children);
    const controller = await startController(folder, env, children);
    const before = { cpu: cpuOf(controller), munge: cpuOf(munged), at: performance.now() };
    const script = join(folder, 'task.sh');
    writeFileSync(script, '#!/bin/sh\nexit 0\n', { mode: 0o755 });
    const output = ['--output', '/dev/null', '--error', '/dev/null', '--chdir', folder];
    await run('sbatch', [`--array=1-${tasks}`, '--gres=gpu:1', ...output, script], { env });
    let placed = 0;
    while (placed < tasks && performance.now() - before.at < limitS * 1_000) {
      await sleep(POLL_MS);
      placed = await jobsStarted(env);
    }
    const wall = (performance.now() - before.at) / 1_000;
    const round = { placed, cpu: cpuOf(controller) - before.cpu, mungeCpu: cpuOf(munged) - before.munge, wall };
    await assertAllocated(env, placed, gpus);
    return round;
  } catch (error) {
    throw new Error(
      `${error instanceof Error ? error.message : String(error)}\n${lastLines(join(folder, 'slurmctld.log'))}`,
      { cause: error },
    );
  } finally {
    for (const child of children.reverse()) await stopped(child);
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * @param {string} folder
 * @param {{ nodes: number; gpus: number; tasks: number }} cluster
 */
async function configure(folder, { nodes, gpus, tasks }) {
  for (const name of ['state', 'spool']) mkdirSync(join(folder, name));
  const [port, nodePort] = [await freePort(), await freePort()];
  const lines = [
    'ClusterName=bench',
    'SlurmctldHost=localhost(127.0.0.1)',
    `SlurmUser=${userInfo().username}`,
    `SlurmctldPort=${port}`,
    `SlurmdPort=${nodePort}`,
    'AuthType=auth/munge',
    'CredType=cred/munge',
    `AuthInfo=socket=${join(folder, 'munge.sock')}`,
    `StateSaveLocation=${join(folder, 'state')}`,
    `SlurmdSpoolDir=${join(folder, 'spool')}`,
    `SlurmctldPidFile=${join(folder, 'slurmctld.pid')}`,
    `SlurmctldLogFile=${join(folder, 'slurmctld.log')}`,
    'SlurmctldDebug=error',
    'ProctrackType=proctrack/linuxproc',
    'TaskPlugin=task/none',
    'MpiDefault=none',
    'SlurmdTimeout=0',
    // As fast as its guide to high throughput makes it: no backfill beside, the whole queue in each pass, the next pass at once.
    // A pass may take at most half of MessageTimeout.
    'MessageTimeout=100',
    'SchedulerType=sched/builtin',
    'SchedulerParameters=default_queue_depth=100000,sched_interval=1,batch_sched_delay=1,max_sched_time=49',
    'PriorityType=priority/basic',
    'SelectType=select/cons_tres',
    'SelectTypeParameters=CR_Core',
    'AccountingStorageType=accounting_storage/none',
    'JobAcctGatherType=jobacct_gather/none',
    'GresTypes=gpu',
    `MaxArraySize=${tasks + 1}`,
    `MaxJobCount=${2 * tasks + 1_000}`,
    'SuspendProgram=/bin/true',
    'ResumeProgram=/bin/true',
    'SuspendTime=-1',
    'ResumeTimeout=65000',
    'ResumeRate=0',
    `NodeName=n[1-${nodes}] NodeAddr=127.0.0.1 CPUs=${CPUS_PER_NODE} RealMemory=100000 Gres=gpu:${gpus} State=CLOUD`,
    'PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP',
  ];
  writeFileSync(join(folder, 'slurm.conf'), `${lines.join('\n')}\n`);
  writeFileSync(join(folder, 'gres.conf'), `Name=gpu Count=${gpus}\n`);
  return { ...process.env, SLURM_CONF: join(folder, 'slurm.conf') };
}

/**
 * @param {string} folder
 * @param {ChildProcess[]} children
 */
async function startMunge(folder, children) {
  const key = join(folder, 'munge.key');
  await run('mungekey', ['--create', `--keyfile=${key}`]);
  const at = (/** @type {string} */ name) => join(folder, name);
  const files = [`--socket=${at('munge.sock')}`, `--pid-file=${at('munged.pid')}`, `--log-file=${at('munged.log')}`];
  // --force: the folder is nobody's but ours, which is not what munged expects of it.
  const args = ['--foreground', '--force', `--key-file=${key}`, `--seed-file=${at('munge.seed')}`, ...files];
  const child = spawn('munged', args, { stdio: 'ignore' });
  children.push(child);
  await until(() => run('munge', ['-n', `--socket=${at('munge.sock')}`]), child, 'munged');
  return child;
}

/**
 * @param {string} folder
 * @param {NodeJS.ProcessEnv} env
 * @param {ChildProcess[]} children
 */
async function startController(folder, env, children) {
  const log = openSync(join(folder, 'slurmctld.log'), 'a');
  const child = spawn('slurmctld', ['-D', '-c'], { env, cwd: folder, stdio: ['ignore', log, log] });
  closeSync(log);
  children.push(child);
  await until(() => run('scontrol', ['ping'], { env }), child, 'slurmctld');
  return child;
}

/**
 * @param {() => Promise<unknown>} works
 * @param {ChildProcess} child
 * @param {string} name
 */
async function until(works, child, name) {
  const end = performance.now() + START_MS;
  /** @type {string | null} */
  let gone = null;
  child.once('error', (error) => (gone = error.message));
  child.once('exit', (code) => (gone ??= `it ended with ${code}`));
  while (performance.now() < end) {
    if (gone !== null) throw new Error(`${name} did not start: ${gone}`);
    try {
      return await works();
    } catch {
      // It is starting.
      await sleep(100);
    }
  }
  throw new Error(`${name} did not answer within ${START_MS / 1_000} s`);
}

/** @param {NodeJS.ProcessEnv} env */
async function jobsStarted(env) {
  const { stdout } = await run('sdiag', [], { env });
  const started = /Jobs started:\s*(\d+)/.exec(stdout);
  if (started === null) throw new Error('sdiag does not say how many jobs were started');
  return Number(started[1]);
}

/**
 * What it says it started stands on nodes, and on none more than it has GPUs.
 *
 * @param {NodeJS.ProcessEnv} env
 * @param {number} placed
 * @param {number} gpus
 */
async function assertAllocated(env, placed, gpus) {
  const { stdout } = await run('squeue', ['--array', '--noheader', '--states=CF,R', '--format=%N'], {
    env,
    maxBuffer: 64 * 1_048_576,
  });
  const perNode = new Map();
  for (const node of stdout.split('\n').filter((line) => line.trim() !== ''))
    perNode.set(node, (perNode.get(node) ?? 0) + 1);
  const allocated = [...perNode.values()].reduce((sum, count) => sum + count, 0);
  if (allocated < placed || Math.max(0, ...perNode.values()) > gpus)
    throw new Error(`Slurm says ${placed} jobs were started, but ${allocated} are allocated as they should be`);
}

/**
 * CPU-seconds of a process so far, its threads and ended children included.
 *
 * @param {ChildProcess} child
 */
function cpuOf({ pid }) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND;
}

/** @param {ChildProcess} child */
function stopped(child) {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return Promise.resolve();
  return new Promise((resolve) => {
    child.once('exit', resolve);
    child.kill('SIGKILL');
  });
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = /** @type {AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}

/** @param {string} file */
function lastLines(file) {
  try {
    return readFileSync(file, 'utf8').split('\n').slice(-10).join('\n');
  } catch {
    return '';
  }
}
