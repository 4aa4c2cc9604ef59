/* A program: reads all of a store and says what it found, or what damage. For damage.test.ts. */
import { KeychainError } from '../../src/base/errors.js';
import { origin } from '../../src/log/event-log.js';
import { metaKey } from '../../src/log/keys.js';
import { openLog } from '../../src/log/open-log.js';
import { RocksEngine } from '../../src/log/rocks-engine.js';
import { all, blocks, text } from './support.js';

async function read(dir: string): Promise<string> {
  const engine = await RocksEngine.open(dir);
  const { log, damage } = await openLog({ engine, fatal: say });
  if (damage !== undefined) return `${damage.kind}: ${damage.message}`;
  const found = await all(log.read(origin));
  const vote = await log.get(metaKey('vote'));
  const wanted = blocks(origin, found.length);
  const wrong = found.findIndex((b, i) => Buffer.compare(b.bytes, wanted[i]?.bytes ?? b.bytes));
  await engine.close();
  return `${found.length} blocks, vote: ${text(vote ?? new Uint8Array(0))}${wrong < 0 ? '' : `, wrong: ${wrong}`}`;
}

function say(error: unknown): string {
  const { reason, message } = KeychainError.from(error);
  return `${reason} ${message}`;
}

const [, , dir = ''] = process.argv;
process.stdout.write(`${await read(dir).catch(say)}\n`, () => process.exit(0));
