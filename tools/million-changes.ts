/*
 * A coordinator alone, on the memory engine, through many changes of the registry: what its log, its snapshot and its
 * memory come to. node dist/tools/million-changes.js [CHANGES]
 */
import { systemClock } from '../src/base/clock.js';
import { systemRandom } from '../src/base/random.js';
import { timingDefault } from '../src/base/timing.js';
import { RegistryMachine } from '../src/coordinator/registry-machine.js';
import { encodeRegistry } from '../src/coordinator/snapshot.js';
import { RegistryCommand } from '../src/gen/keychaindb/v1/coordinator.js';
import { MemoryEngine } from '../src/log/memory-engine.js';
import { openLog } from '../src/log/open-log.js';
import { startRaft } from '../src/raft/runtime.js';

const changes = Number(process.argv[2] ?? 1_000_000);
/** Proposed at a time. */
const batch = 500;

const fatal = (error: unknown): never => {
  throw error;
};
const engine = new MemoryEngine();
const { log } = await openLog({ engine, fatal });
const registry = new RegistryMachine();
const raft = await startRaft({
  id: 'c1',
  address: '127.0.0.1:1',
  founders: new Map([['c1', '127.0.0.1:1']]),
  clock: systemClock,
  random: systemRandom,
  timing: timingDefault,
  log,
  dialer: { dial: () => fatal(new Error('there is nobody to dial')) },
  machine: registry,
  clusterId: () => registry.state.clusterId,
  fatal,
});

const propose = async (command: NonNullable<RegistryCommand['command']>): Promise<void> => {
  const payload = RegistryCommand.encode({ command }).finish();
  const outcome = await raft.propose(payload, { timeoutMs: 60_000 });
  if (outcome.type !== 'applied') fatal(new Error(`not applied: ${outcome.type}`));
};

while (!raft.status.isCurrent) await new Promise((resolve) => setTimeout(resolve, 20));
const clusterId = systemRandom.bytes(16);
await propose({ $case: 'createCluster', value: { clusterId, chainId: 1 } });

async function report(done: number): Promise<void> {
  let blocks = 0;
  let bytes = 0;
  for await (const [key, value] of engine.scan({
    gte: new Uint8Array([0]),
    lt: new Uint8Array([255]),
  })) {
    blocks += key[0] === 'l'.charCodeAt(0) ? 1 : 0;
    bytes += key.byteLength + value.byteLength;
  }
  const { first, last, snapshot } = raft.status;
  const kept = `entries ${first} to ${last.index} kept (${blocks} on the disk)`;
  const state = encodeRegistry(registry.state).byteLength;
  const rss = Math.round(process.memoryUsage().rss / 1e6);
  process.stdout.write(
    `${done} changes: ${kept}, snapshot at ${snapshot} of ${state} bytes, store ${bytes} bytes, ${rss} MB\n`,
  );
}

const begun = performance.now();
// Every id is a new one: what is remembered of the removed ones is bounded too.
for (let done = 0; done < changes; done += 2 * batch) {
  const ids = Array.from({ length: batch }, (_, i) => `node-${done / 2 + i}`);
  await Promise.all(
    ids.flatMap((id, i) => [
      propose({
        $case: 'addMember',
        value: { id, address: `127.0.0.1:${i + 1}`, spare: false, expectedEpoch: 0 },
      }),
      propose({ $case: 'removeMember', value: { id, expectedEpoch: 0 } }),
    ]),
  );
  if ((done + 2 * batch) % Math.max(2 * batch, changes / 5) === 0) await report(done + 2 * batch);
}
const seconds = (performance.now() - begun) / 1_000;
process.stdout.write(`${Math.round(changes / seconds)} changes a second\n`);
await raft.close();
await log.close();
