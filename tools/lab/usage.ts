import { readFileSync } from 'node:fs';

/** Of a process, from /proc: CPU time in ticks of 10 ms, resident pages of 4 KiB. */
export function usage(pid: number): { readonly cpuMs: number; readonly memoryMb: number } {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  const ticks = Number(fields[11]) + Number(fields[12]);
  return { cpuMs: ticks * 10, memoryMb: (Number(fields[21]) * 4_096) / (1 << 20) };
}

/** CPU time of several processes together, milliseconds. */
export function cpuOf(pids: readonly number[]): number {
  return pids.reduce((all, pid) => all + usage(pid).cpuMs, 0);
}
