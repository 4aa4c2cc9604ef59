import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChannelCredentials, Client, Metadata, status } from '@grpc/grpc-js';
import { connect, KeychainError } from '../../../src/client/client.js';
import { protocols } from '../protocols.js';
import type { DriverPlan, DriverReport } from './driver.js';
import { chooser, keyOf } from './keys.js';
import { Latencies } from './latencies.js';
import { Schedule } from './schedule.js';

/* A generator in its own process: takes a plan over IPC, runs it once, and answers with what it saw. */

const timeoutMs = 20_000;

/** Runs one operation; rejects with the code of what it was refused with. */
interface Asker {
  /** True where the tail was asked. */
  read(key: string): Promise<boolean>;
  write(key: string, value: Uint8Array): Promise<unknown>;
  close(): void;
}

class Refused extends Error {
  readonly code: string;
  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

process.once('disconnect', () => process.exit(0));
process.once('message', (plan: DriverPlan) => {
  run(plan)
    .catch((error: unknown): DriverReport => ({ error: String(error) }))
    .then((report) => process.send?.(report));
});

async function run(plan: DriverPlan): Promise<DriverReport> {
  const asker = plan.through === 'client' ? throughClient(plan) : throughGrpc(plan);
  const value = Buffer.alloc(plan.valueBytes, plan.fill ?? 'v');
  try {
    if (plan.fills === true) await fill(plan, asker, value);
    if (plan.warmUpSeconds !== undefined && plan.warmUpSeconds > 0) {
      const loop = { inFlight: 'inFlight' in plan.loop ? plan.loop.inFlight : 16 };
      await measured({ ...plan, loop, seconds: plan.warmUpSeconds }, asker, value);
    }
    const go = once(process, 'message');
    process.send?.({ warm: true } satisfies DriverReport);
    await go;
    return await measured(plan, asker, value);
  } finally {
    asker.close();
  }
}

async function fill({ keys }: DriverPlan, asker: Asker, value: Uint8Array): Promise<void> {
  let next = 0;
  const one = async (): Promise<void> => {
    while (next < keys.count) {
      const index = next;
      next += 1;
      await asker.write(keyOf(index), value);
    }
  };
  await Promise.all(Array.from({ length: 64 }, one));
}

async function measured(plan: DriverPlan, asker: Asker, value: Uint8Array): Promise<DriverReport> {
  const choose = chooser(plan.keys.choice, plan.keys.count, Math.random);
  const all = new Latencies();
  const [reading, writing, dirty, failing] = Array.from({ length: 4 }, () => new Latencies()) as [
    Latencies,
    Latencies,
    Latencies,
    Latencies,
  ];
  const codes: Record<string, number> = {};
  let failed = 0;
  /** @param due when its latency counts from */
  const operation = async (due: number): Promise<void> => {
    const reads = plan.readPart >= 1 || Math.random() < plan.readPart;
    const key = keyOf(choose());
    try {
      const isDirty = reads
        ? await asker.read(key)
        : await asker.write(key, value).then(() => false);
      const took = performance.now() - due;
      all.add(took);
      if (isDirty) dirty.add(took);
      (reads ? reading : writing).add(took);
    } catch (error) {
      const code = error instanceof Refused ? error.code : String(error);
      codes[code] = (codes[code] ?? 0) + 1;
      failed += 1;
      failing.add(performance.now() - due);
    }
  };
  const cpuBefore = process.cpuUsage();
  const began = performance.now();
  if ('inFlight' in plan.loop) {
    const until = began + plan.seconds * 1_000;
    const loop = async (): Promise<void> => {
      while (performance.now() < until) await operation(performance.now());
    };
    await Promise.all(Array.from({ length: plan.loop.inFlight }, loop));
  } else {
    await openLoop(new Schedule(began, plan.loop.perSecond, plan.seconds), operation);
  }
  const seconds = (performance.now() - began) / 1_000;
  const cpu = process.cpuUsage(cpuBefore);
  const [readLatency, writeLatency] = [reading.latency, writing.latency];
  return {
    done: {
      seconds,
      cpuMs: (cpu.user + cpu.system) / 1_000,
      answered: all.latency.count,
      failed,
      codes,
      latency: all.latency,
      readLatency,
      writeLatency,
      dirtyLatency: dirty.latency,
      failedLatency: failing.latency,
      reads: readLatency.count,
      writes: writeLatency.count,
    },
  };
}

async function openLoop(
  schedule: Schedule,
  operation: (due: number) => Promise<void>,
): Promise<void> {
  const pending = new Set<Promise<void>>();
  for (;;) {
    const due = schedule.take(performance.now());
    if (due !== undefined) {
      const begun = operation(due).finally(() => pending.delete(begun));
      pending.add(begun);
      continue;
    }
    const { next } = schedule;
    if (next === undefined) break;
    // A timer is up to 2 ms late; what is due sooner is waited for in turns of the loop, which costs CPU but no time.
    const wait = next - performance.now();
    if (wait > 3) await sleep(wait - 2);
    else await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(pending);
}

function throughClient({ addresses, node }: DriverPlan): Asker {
  const client = connect({ endpoints: addresses, timeoutMs });
  const refused = (error: unknown): never => {
    throw new Refused(error instanceof KeychainError ? error.reason : String(error));
  };
  return {
    read: async (key) => {
      const found = await client.get(key, node === undefined ? {} : { node }).catch(refused);
      return found?.served?.askedTail === true;
    },
    write: (key, value) => client.put(key, value).catch(refused),
    close: () => client.close(),
  };
}

function throughGrpc({ through, addresses, connections, valueBytes, node }: DriverPlan): Asker {
  const protocol = protocols[through === 'etcd' ? 'etcd' : 'keychaindb'];
  const clients = Array.from(
    { length: connections },
    (_, i) =>
      new Client(addresses[i % addresses.length] ?? '', ChannelCredentials.createInsecure(), {
        'grpc.use_local_subchannel_pool': 1,
        'grpc.enable_channelz': 0,
        'grpc.enable_retries': 0,
        'grpc.max_receive_message_length': -1,
      }),
  );
  const metadata = new Metadata();
  const same = (bytes: Buffer): Buffer => bytes;
  let turn = 0;
  const ask = (path: string, message: Uint8Array): Promise<Buffer> => {
    turn = (turn + 1) % clients.length;
    const deadline = Date.now() + timeoutMs;
    return new Promise((resolve, reject) => {
      clients[turn]?.makeUnaryRequest(
        path,
        same,
        same,
        Buffer.from(message.buffer, message.byteOffset, message.byteLength),
        metadata,
        { deadline },
        (error, answer) => {
          if (error === null && answer !== undefined) resolve(answer);
          else reject(new Refused(status[error?.code ?? status.UNKNOWN]));
        },
      );
    });
  };
  return {
    read: async (key) => {
      const answer = await ask(protocol.getPath, protocol.get(key, node));
      // Every key was written with a value of this size: a read that finds another is wrong.
      const { value, isDirty } = protocol.found(answer);
      if (value?.byteLength !== valueBytes) throw new Refused('WRONG_VALUE');
      return isDirty;
    },
    write: (key, value) => ask(protocol.putPath, protocol.put(key, value)),
    close: () => {
      for (const client of clients) client.close();
    },
  };
}
