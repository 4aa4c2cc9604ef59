import { writeSampleLog } from './sample-log.js';

/** Accounts and their balances: 100,000 writes, and one that should never have been made. */
export const ledgerEntries = 100_000;
export const wrongEntry = 73_911;

/** The folder of docs/log-tools.md. */
export function writeLedgerSample(dir: string): Promise<void> {
  return writeSampleLog(dir, {
    entries: ledgerEntries,
    keys: 50_000,
    name: 'account',
    value: (index) => `${index === wrongEntry ? -250 : (index * 7919) % 10_000}`,
  });
}
