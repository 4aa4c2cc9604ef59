import t from 'tap';
import { isNotFound, openError, readError } from '../../src/log/rocks-status.js';

const io = 'IO error: ';
const gone = 'No such file or directory';
const unsized = `${io}While stat a file for size: /d/000012.sst: `;

t.test('what RocksDB says is damage, or may be well at the next try', async (t) => {
  for (const [text, reason] of [
    ['Corruption: block checksum mismatch: expected 1, got 2 in /d/000012.sst', 'CORRUPT'],
    ['Corruption: Bad table magic number: expected 1, found 2 in /d/000012.sst', 'CORRUPT'],
    ['Corruption: Sst file size mismatch: /d/000012.sst. Size 1, actual size 2\n', 'CORRUPT'],
    [`${io}While pread offset 0 len 53: /d/000012.sst: Input/output error`, 'CORRUPT'],
    [`${io}${gone}While open a file for random read: /d/000012.ldb: ${gone}`, 'CORRUPT'],
    [`Corruption: Can't access /000012.sst: ${unsized}${gone}\n`, 'CORRUPT'],
    [`Corruption: Can't access /000012.sst: ${unsized}Input/output error\n`, 'CORRUPT'],
    [`Corruption: Can't access /000012.sst: ${unsized}Permission denied\n`, 'INTERNAL'],
    [
      `Corruption: Can't access /1.sst: ${unsized}Permission denied\nSst file size mismatch: /2.sst`,
      'CORRUPT',
    ],
    [`${io}While open a file for random read: /d/12.sst: Too many open files`, 'INTERNAL'],
    [`${io}While open a file: /d/12.sst: Too many open files in system`, 'INTERNAL'],
    [`${io}While pread offset 0 len 53: /d/12.sst: Cannot allocate memory`, 'INTERNAL'],
    [`${io}While open a file for random read: /d/12.sst: Permission denied`, 'INTERNAL'],
    [`${io}No space left on deviceWhile appending to file: /d/12.sst: No space left`, 'INTERNAL'],
    [`${io}Stale file handle`, 'INTERNAL'],
    ['Invalid argument: ', 'INTERNAL'],
    ['Not implemented: ', 'INTERNAL'],
    ['Result incomplete: ', 'INTERNAL'],
    ['Operation timed out: ', 'INTERNAL'],
    ['Operation aborted: ', 'INTERNAL'],
    ['Resource busy: ', 'INTERNAL'],
    ['Operation failed. Try again.: ', 'INTERNAL'],
    ['Database is not open', 'INTERNAL'],
  ] as const) {
    t.equal(readError(new Error(text)).reason, reason, text);
    t.equal(openError('/d', new Error(text)).reason, reason, text);
  }
});

t.test('who has the folder is told from what else keeps its lock from being taken', async (t) => {
  for (const [text, reason] of [
    ['lock hold by current process, acquire time 1: /d/LOCK: No locks available', 'BAD_REQUEST'],
    ['While lock file: /d/LOCK: Resource temporarily unavailable', 'BAD_REQUEST'],
    ['while open a file for lock: /d/LOCK: Too many open files', 'INTERNAL'],
    ['While open a file for random read: /lock/store/12.sst: Permission denied', 'INTERNAL'],
  ] as const) {
    t.equal(openError('/d', new Error(`${io}${text}`)).reason, reason, text);
  }
});

t.test('what to do stands in the message', async (t) => {
  for (const [why, what] of [
    ['Too many open files', 'Raise the limit of open files (ulimit -n, LimitNOFILE)'],
    ['Cannot allocate memory', 'Give the process more memory'],
    ['Permission denied', "Let the process's user read and write the data folder"],
    ['No space left on device', 'Make room on the disk'],
    ['Is a directory', 'Look at the disk'],
  ]) {
    const { message } = readError(new Error(`${io}While pread: /d/12.sst: ${why}`));
    t.equal(message, `the store can't be read now: ${io}While pread: /d/12.sst: ${why}. ${what}`);
  }
});

t.test('a key that is not there is told from a folder of that name', async (t) => {
  t.ok(isNotFound('NotFound: '));
  t.notOk(isNotFound(`${io}While open a file: /notfound/12.sst: Too many open files`));
});
