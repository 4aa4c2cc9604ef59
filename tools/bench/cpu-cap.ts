import { existsSync } from 'node:fs';
import { mkdir, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A period short enough that a capped process is never still for as long as a lease. */
const periodMicros = 10_000;

/** Of caps that hold now. */
const releases = new Set<() => Promise<void>>();

export async function endCaps(): Promise<void> {
  await Promise.all([...releases].map((release) => release()));
}

/**
 * Gives each process the same share of one CPU, by a cgroup (version 2, or the cpu controller of version 1). Undefined
 * where this machine lets us make none.
 */
export async function capEach(
  pids: readonly number[],
  share: number,
): Promise<(() => Promise<void>) | undefined> {
  const root = ['/sys/fs/cgroup/cpu', '/sys/fs/cgroup'].find(
    (dir) =>
      existsSync(join(dir, 'cpu.cfs_quota_us')) || existsSync(join(dir, 'cgroup.controllers')),
  );
  if (root === undefined) return undefined;
  const made: { readonly dir: string; readonly pid: number }[] = [];
  const release = async (): Promise<void> => {
    releases.delete(release);
    for (const { dir, pid } of made) {
      // The process may be gone; a folder without processes can be removed.
      await writeFile(join(root, 'cgroup.procs'), `${pid}`).catch(() => undefined);
      await rmdir(dir).catch(() => undefined);
    }
  };
  releases.add(release);
  try {
    for (const pid of pids) {
      const dir = join(root, `keychaindb-bench-${process.pid}-${pid}`);
      await mkdir(dir);
      made.push({ dir, pid });
      const quota = Math.round(share * periodMicros);
      if (root.endsWith('/cpu')) {
        await writeFile(join(dir, 'cpu.cfs_period_us'), `${periodMicros}`);
        await writeFile(join(dir, 'cpu.cfs_quota_us'), `${quota}`);
      } else await writeFile(join(dir, 'cpu.max'), `${quota} ${periodMicros}`);
      await writeFile(join(dir, 'cgroup.procs'), `${pid}`);
    }
    return release;
  } catch {
    await release();
    return undefined;
  }
}
