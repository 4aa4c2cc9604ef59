import { Metadata, Server, ServerCredentials } from '@grpc/grpc-js';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { KeychainError } from '../../src/base/errors.js';
import { RaftMessage, type RaftServer, RaftService } from '../../src/gen/keychaindb/v1/raft.js';
import { type TelemetryServer, TelemetryService } from '../../src/gen/keychaindb/v1/telemetry.js';
import { TelemetryPeers } from '../../src/telemetry/peers.js';
import { Connections, dialBidi, serveBidi } from '../../src/wire/grpc-channel.js';
import { listen } from '../../src/wire/grpc-server.js';
import { Handshake, type RefusedPeer } from '../../src/wire/handshake.js';
import { ManualClock } from '../proxy/manual-clock.js';

/* Processes of different versions, over gRPC on this machine. */

const current = { major: 1, minor: 1 };
const newerMinor = { major: 1, minor: 7 };
const newerMajor = { major: 2, minor: 0 };

interface Teardown {
  teardown(done: () => unknown): void;
}

interface Side {
  readonly handshake: Handshake;
  /** Whom it told its operator of, in order. */
  readonly told: RefusedPeer[];
}

function side(process: string, version: typeof current, clock = systemClock): Side {
  const told: RefusedPeer[] = [];
  const refused = (peer: RefusedPeer): void => void told.push(peer);
  return { handshake: new Handshake({ process, version, clock, refused }), told };
}

const handlers = (heard: string[]): { raft: RaftServer; telemetry: TelemetryServer } => ({
  raft: {
    messages: serveBidi((channel) => ({
      message: (message) => {
        heard.push(message.from);
        channel.send(saying('answer'));
      },
      closed: () => undefined,
    })),
  },
  telemetry: {
    getTrace: (_call, callback) => callback(null, { spans: [], silent: [] }),
    setLogLevel: (call, callback) => {
      heard.push(call.request.level);
      callback(null, { process: call.request.process, before: 'info' });
    },
  },
});

function saying(from: string): RaftMessage {
  return { ...RaftMessage.decode(new Uint8Array(0)), from };
}

/** A process that listens; `heard`: what reached its handlers. */
async function accepting(t: Teardown, { handshake }: Side) {
  const heard: string[] = [];
  const { raft, telemetry } = handlers(heard);
  const listener = await listen({
    address: '127.0.0.1:0',
    flag: '--listen',
    handshake,
    services: [
      { definition: RaftService, implementation: raft },
      { definition: TelemetryService, implementation: telemetry },
    ],
  });
  t.teardown(() => listener.close());
  return { address: listener.address, heard };
}

/** One that looks at no version; without `says` it says none either, as 0.1.0. */
async function acceptingAll(t: Teardown, says?: Metadata) {
  const heard: string[] = [];
  const { raft, telemetry } = handlers(heard);
  const server = new Server();
  server.addService(RaftService, {
    messages: (call: Parameters<RaftServer['messages']>[0]) => {
      if (says !== undefined) call.sendMetadata(says);
      raft.messages(call);
    },
  });
  server.addService(TelemetryService, {
    ...telemetry,
    setLogLevel: (...[call, callback]: Parameters<TelemetryServer['setLogLevel']>) => {
      if (says !== undefined) call.sendMetadata(says);
      telemetry.setLogLevel(call, callback);
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  t.teardown(() => server.forceShutdown());
  return { address: `127.0.0.1:${port}`, heard };
}

/** Says something on a stream: what comes back first, or why it closed. */
async function exchange(address: string, dialer: Side | undefined): Promise<string> {
  const connections = new Connections(dialer?.handshake);
  try {
    return await new Promise<string>((resolve) => {
      const channel = dialBidi(connections, 'raft', RaftService.messages).dial(address, {
        message: ({ from }) => {
          channel.close('answered');
          resolve(from);
        },
        closed: (reason) => resolve(`closed: ${reason}`),
      });
      channel.send(saying('dialer'));
    });
  } finally {
    connections.close();
  }
}

/** A unary call: `done`, or the error. */
async function ask(address: string, { handshake }: Side): Promise<string> {
  const connections = new Connections(handshake);
  const peers = new TelemetryPeers(connections, systemClock, async () => new Map([['a', address]]));
  try {
    await peers.setLogLevel({ process: 'a', level: 'warn' });
    return 'done';
  } catch (error) {
    const { reason, message } = KeychainError.from(error);
    return `${reason}: ${message}`;
  } finally {
    connections.close();
  }
}

t.test('a newer minor version is understood, whoever has it', async (t) => {
  for (const [dials, accepts] of [
    [newerMinor, current],
    [current, newerMinor],
  ] as const) {
    const acceptor = side('node n2', accepts);
    const dialer = side('node n1', dials);
    const { address, heard } = await accepting(t, acceptor);
    t.equal(await exchange(address, dialer), 'answer');
    t.equal(await ask(address, dialer), 'done');
    t.same(heard, ['dialer', 'warn']);
    t.same([...acceptor.told, ...dialer.told], []);
  }
});

t.test('a process that says no version is one of 0.1.0, which spoke 1.0', async (t) => {
  const acceptor = side('node n2', current);
  const { address } = await accepting(t, acceptor);
  t.equal(await exchange(address, undefined), 'answer');
  const old = await acceptingAll(t);
  const dialer = side('node n1', current);
  t.equal(await exchange(old.address, dialer), 'answer');
  t.equal(await ask(old.address, dialer), 'done');
  t.same([...acceptor.told, ...dialer.told], []);
});

t.test('another major version is refused by who accepts, before anything is handled', async (t) => {
  for (const [dials, accepts] of [
    [newerMajor, current],
    [current, newerMajor],
  ] as const) {
    const acceptor = side('coordinator c1', accepts);
    const dialer = side('node n1', dials);
    const { address, heard } = await accepting(t, acceptor);
    const [older, newer] =
      dials === newerMajor ? ['coordinator c1', 'node n1'] : ['node n1', 'coordinator c1'];
    const remedy = `upgrade ${older}, or start ${newer} with the program that it had before`;
    const message = `node n1 speaks protocol ${dials.major}.${dials.minor}, coordinator c1 speaks ${accepts.major}.${accepts.minor}: they exchange nothing`;
    for (let attempt = 0; attempt < 3; attempt += 1) {
      t.match(await exchange(address, dialer), `${message}; ${remedy}`);
      t.equal(await ask(address, dialer), `VERSION_UNKNOWN: ${message}; ${remedy}`);
    }
    t.same(heard, [], 'nothing reached a handler');
    const dialed = { process: 'node n1', version: `${dials.major}.0` };
    t.match(acceptor.told, [{ message, remedy, ...(dials === newerMajor ? dialed : {}) }]);
    t.match(dialer.told, [{ process: 'coordinator c1', message, remedy }]);
    t.same([acceptor.told.length, dialer.told.length], [1, 1], 'told once, not for each try');
    t.same(acceptor.handshake.refused, acceptor.told);
  }
});

t.test('a program of another major version refuses one of 0.1.0, and no client', async (t) => {
  const acceptor = side('node n2', newerMajor);
  const { address, heard } = await accepting(t, acceptor);
  t.match(await exchange(address, undefined), /speaks protocol 1\.0, node n2 speaks 2\.0/);
  t.same(heard, []);
  const client = new Connections().client(address, 'client');
  const level = await new Promise((resolve) => {
    const { path, requestSerialize, responseDeserialize } = TelemetryService.setLogLevel;
    const request = { process: 'n2', level: 'debug' };
    client?.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, (_, answer) =>
      resolve(answer?.before),
    );
  });
  client?.close();
  t.equal(level, 'info');
});

t.test('another major version is refused by who dials, and nothing of it is heard', async (t) => {
  const says = side('node n2', newerMajor).handshake.metadata;
  const { address } = await acceptingAll(t, says);
  const dialer = side('node n1', current);
  for (let attempt = 0; attempt < 3; attempt += 1) {
    t.match(await exchange(address, dialer), /^closed: node n2 speaks protocol 2\.0, node n1/);
    t.match(await ask(address, dialer), /^VERSION_UNKNOWN: node n2 speaks protocol 2\.0/);
  }
  t.match(dialer.told, [{ process: 'node n2', version: '2.0' }]);
  t.equal(dialer.told.length, 1);
  const next = side('node n1', newerMajor);
  const old = await acceptingAll(t);
  t.match(await exchange(old.address, next), `closed: ${old.address} speaks protocol 1.0`);
});

t.test('what is no version is refused, and steers no terminal', async (t) => {
  const says = new Metadata();
  says.set('x-keychaindb-protocol', 'soon');
  says.set('x-keychaindb-process', encodeURIComponent('node \u001b[2J'));
  const { handshake, told } = side('node n1', current);
  t.equal(handshake.meet(says, '127.0.0.1:1')?.reason, 'VERSION_UNKNOWN');
  t.match(told, [{ process: 'node  [2J', version: 'soon' }]);
});

t.test('one that was upgraded, or is silent, is told of no more', async (t) => {
  const clock = new ManualClock();
  const { handshake, told } = side('coordinator c1', current, clock);
  const as = (process: string, version: typeof current): Metadata =>
    side(process, version).handshake.metadata;
  handshake.meet(as('node n1', newerMajor), '');
  handshake.meet(as('node n2', newerMajor), '');
  t.equal(handshake.refused.length, 2);
  handshake.meet(as('node n1', newerMinor), '');
  t.match(handshake.refused, [{ process: 'node n2' }]);
  await clock.pass(30_001);
  t.same(handshake.refused, []);
  handshake.meet(as('node n2', newerMajor), '');
  t.same(told.length, 3, 'one that comes again is told of again');
});

t.test('of those that are refused a bounded number is remembered', async (t) => {
  const { handshake } = side('coordinator c1', current);
  for (let n = 0; n < 200; n += 1) {
    handshake.meet(side(`node n${n}`, newerMajor).handshake.metadata, '');
  }
  t.equal(handshake.refused.length, 64);
  t.equal(handshake.refused.at(-1)?.process, 'node n199');
});
