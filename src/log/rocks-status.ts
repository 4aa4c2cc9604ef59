import { KeychainError } from '../base/errors.js';

/*
 * The binding gives of an error no more than its text, e.g. `IO error: While pread offset 0 len 53: /d/000012.sst:
 * Input/output error`: RocksDB's status, what it did to which file, and the system's word for why.
 */

/** A file of the store is gone, or its medium doesn't give it back. */
const lost = /No such file or directory|Input\/output error|Structure needs cleaning|Bad message/;
const inUse = /^IO error: (lock hold by current process|While lock file: .*temporarily)/i;

/** What to do where the system refused, by its word for why. */
const ways: readonly (readonly [why: RegExp, what: string])[] = [
  [/Too many open files/, 'Raise the limit of open files (ulimit -n, LimitNOFILE)'],
  [/Cannot allocate memory/, 'Give the process more memory'],
  [/Permission denied|not permitted/, "Let the process's user read and write the data folder"],
  [/No space left|quota exceeded/, 'Make room on the disk'],
];

/** No record has this key. */
export function isNotFound(text: string): boolean {
  return text.startsWith('NotFound:');
}

/**
 * Is something of the store changed or gone? What else fails may be well at the next try: a store is not to be
 * given up for want of a file handle.
 */
export function isLoss(text: string): boolean {
  if (text.startsWith('IO error:')) return lost.test(text);
  if (!text.startsWith('Corruption:')) return false;
  // Opening says so of a table that it can't look at, too, whatever the reason: one in each line.
  const lines = text.trim().split('\n');
  return lines.some((line) => !line.includes('IO error:') || lost.test(line));
}

/** Of a get or a scan: CORRUPT where something is lost, else INTERNAL. */
export function readError(error: Error): KeychainError {
  const { message } = error;
  return isLoss(message)
    ? new KeychainError('CORRUPT', `the store can't be read: ${message}`, {}, error)
    : new KeychainError('INTERNAL', `the store can't be read now: ${withWay(message)}`, {}, error);
}

/** Of an open: BAD_REQUEST where another process has the folder; else as of a read. */
export function openError(dir: string, error: Error): KeychainError {
  const { message } = error;
  if (inUse.test(message)) {
    return new KeychainError(
      'BAD_REQUEST',
      `the data folder ${dir} is in use by another process: end it, or use another --data-dir`,
      { dir },
      error,
    );
  }
  const what = `the store in ${dir} can't be opened`;
  return isLoss(message)
    ? new KeychainError('CORRUPT', `${what}: ${message}`, { dir }, error)
    : new KeychainError('INTERNAL', `${what} now: ${withWay(message)}`, { dir }, error);
}

function withWay(message: string): string {
  const way = ways.find(([why]) => why.test(message))?.[1] ?? 'Look at the disk';
  return `${message.trim()}. ${way}`;
}
