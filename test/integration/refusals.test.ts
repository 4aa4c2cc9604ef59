import { spawnSync } from 'node:child_process';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { KeychainError } from '../../src/client/client.js';
import { clusterVerbs } from '../../src/retry/cluster-verbs.js';
import { Lab, main } from '../../tools/lab/cluster.js';

/*
 * What an operator may ask for and doesn't get: each refusal has its reason, over gRPC, HTTP and the command line, and
 * nothing is half done.
 */

const timeoutMs = 3_000;
const lab = await Lab.start({ nodes: 1 });
t.teardown(() => lab.stop());
const [proxy] = lab.of('proxy');
const grpc = proxy?.grpc ?? '';
const verbs = clusterVerbs({ addresses: [grpc], clock: systemClock });
t.teardown(() => verbs.close());

interface Asked {
  readonly what: string;
  readonly reason: string;
  readonly http: number;
  readonly exit: number;
  readonly overGrpc: () => Promise<unknown>;
  readonly overHttp: readonly [method: string, path: string, body?: object];
  readonly line: readonly string[];
}

async function over(asked: Asked): Promise<void> {
  const { reason, overHttp, line, what } = asked;
  const refused = await asked.overGrpc().then(
    () => 'it was done',
    (error: unknown) => KeychainError.from(error).reason,
  );
  t.equal(refused, reason, `${what}: gRPC`);
  const [method, path, body] = overHttp;
  const headers = { 'x-keychaindb-timeout': `${timeoutMs}ms` };
  const request = {
    method,
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  };
  const answer = await fetch(`http://${proxy?.http}${path}`, request);
  const { details } = (await answer.json()) as { details?: readonly { reason?: string }[] };
  t.same([answer.status, details?.[0]?.reason], [asked.http, reason], `${what}: HTTP`);
  const flags = ['--endpoints', grpc, '--timeout', `${timeoutMs}ms`];
  const { status, stderr } = spawnSync(process.execPath, [main, ...line, ...flags], {
    encoding: 'utf8',
  });
  t.equal(status, asked.exit, `${what}: exit code`);
  t.match(stderr, new RegExp(`^${reason}: `), `${what}: command line`);
}

/** What was done already, asked for again each way: it succeeds. */
async function again(asked: Omit<Asked, 'reason' | 'http' | 'exit'>): Promise<void> {
  const { what, overHttp, line } = asked;
  await t.resolves(asked.overGrpc(), `${what}: gRPC`);
  const [method, path, body] = overHttp;
  const request = body === undefined ? { method } : { method, body: JSON.stringify(body) };
  const answer = await fetch(`http://${proxy?.http}${path}`, request);
  await answer.arrayBuffer();
  t.equal(answer.status, 200, `${what}: HTTP`);
  const { status, stderr } = spawnSync(process.execPath, [main, ...line, '--endpoints', grpc], {
    encoding: 'utf8',
  });
  t.equal(status, 0, `${what}: command line ${stderr}`);
}

const at = '127.0.0.1:9';
const base = { spare: false, expectedEpoch: 0 };
const [c1 = '', c2 = '', c3 = ''] = lab.of('coordinator').map(({ id }) => id);

t.test('changes of the chain that are refused', async (t) => {
  const own = lab.named('node-1').grpc;
  await verbs.addMember({ id: 'spare', address: at, ...base }, timeoutMs);
  const before = await verbs.members(timeoutMs);
  await over({
    what: 'an id that exists',
    ...{ reason: 'MEMBER_EXISTS', http: 400, exit: 1 },
    overGrpc: () => verbs.addMember({ id: 'spare', address: '127.0.0.1:8', ...base }, timeoutMs),
    overHttp: ['POST', '/v1/chain/members', { id: 'spare', address: '127.0.0.1:8' }],
    line: ['chain', 'add', 'spare', '127.0.0.1:8'],
  });
  await over({
    what: 'an address in use',
    ...{ reason: 'ADDRESS_IN_USE', http: 400, exit: 1 },
    overGrpc: () => verbs.addMember({ id: 'other', address: own, ...base }, timeoutMs),
    overHttp: ['POST', '/v1/chain/members', { id: 'other', address: own }],
    line: ['chain', 'add', 'other', own],
  });
  await over({
    what: 'a member that there is not',
    ...{ reason: 'MEMBER_NOT_FOUND', http: 404, exit: 3 },
    overGrpc: () => verbs.removeMember({ id: 'nobody', expectedEpoch: 0 }, timeoutMs),
    overHttp: ['DELETE', '/v1/chain/members/nobody'],
    line: ['chain', 'remove', 'nobody'],
  });
  for (const [what, path, method] of [
    ['remove', '/v1/chain/members/node-1', 'DELETE'],
    ['drain', '/v1/chain/members/node-1/drain', 'POST'],
  ] as const) {
    const request = { id: 'node-1', expectedEpoch: 0 };
    await over({
      what: `${what} the last serving node`,
      ...{ reason: 'LAST_SERVING', http: 400, exit: 1 },
      overGrpc: () =>
        what === 'drain'
          ? verbs.drainMember(request, timeoutMs)
          : verbs.removeMember(request, timeoutMs),
      overHttp: [method, path],
      line: ['chain', what, 'node-1'],
    });
  }
  await over({
    what: 'a change that was decided on an older epoch',
    ...{ reason: 'STALE_EPOCH', http: 409, exit: 1 },
    overGrpc: () => verbs.removeMember({ id: 'spare', expectedEpoch: 1 }, timeoutMs),
    overHttp: ['DELETE', '/v1/chain/members/spare?expectedEpoch=1'],
    line: ['chain', 'remove', 'spare', '--expected-epoch', '1'],
  });
  await over({
    what: 'an order that names one that does not serve',
    ...{ reason: 'BAD_REQUEST', http: 400, exit: 2 },
    overGrpc: () => verbs.reorderChain({ ids: ['spare'], expectedEpoch: 0 }, timeoutMs),
    overHttp: ['PUT', '/v1/chain/order', { ids: ['spare'] }],
    line: ['chain', 'reorder', 'spare'],
  });
  await over({
    what: 'recovery while the chain serves',
    ...{ reason: 'LAST_SERVING', http: 400, exit: 1 },
    overGrpc: () =>
      verbs.recoverChain({ id: 'spare', lostIds: ['node-1'], expectedEpoch: 0 }, timeoutMs),
    overHttp: ['POST', '/v1/chain/recover', { id: 'spare', lostIds: ['node-1'] }],
    line: ['chain', 'recover', 'spare', '--lose', 'node-1'],
  });
  t.same(await verbs.members(timeoutMs), before, 'nothing of it was done');
});

t.test('changes of the chain that were made already', async (t) => {
  await verbs.addMember({ id: 'gone', address: '127.0.0.1:8', ...base }, timeoutMs);
  await verbs.removeMember({ id: 'gone', expectedEpoch: 0 }, timeoutMs);
  await verbs.drainMember({ id: 'spare', expectedEpoch: 0 }, timeoutMs);
  await verbs.setChainLength({ length: 1, expectedEpoch: 0 }, timeoutMs);
  const { epoch } = await verbs.members(timeoutMs);
  await again({
    what: 'remove',
    overGrpc: () => verbs.removeMember({ id: 'gone', expectedEpoch: 0 }, timeoutMs),
    overHttp: ['DELETE', '/v1/chain/members/gone'],
    line: ['chain', 'remove', 'gone'],
  });
  await again({
    what: 'drain',
    overGrpc: () => verbs.drainMember({ id: 'spare', expectedEpoch: 0 }, timeoutMs),
    overHttp: ['POST', '/v1/chain/members/spare/drain'],
    line: ['chain', 'drain', 'spare'],
  });
  await again({
    what: 'reorder',
    overGrpc: () => verbs.reorderChain({ ids: ['node-1'], expectedEpoch: 0 }, timeoutMs),
    overHttp: ['PUT', '/v1/chain/order', { ids: ['node-1'] }],
    line: ['chain', 'reorder', 'node-1'],
  });
  await again({
    what: 'length',
    overGrpc: () => verbs.setChainLength({ length: 1, expectedEpoch: 0 }, timeoutMs),
    overHttp: ['PUT', '/v1/chain/length', { length: 1 }],
    line: ['chain', 'length', '1'],
  });
  t.equal((await verbs.members(timeoutMs)).epoch, epoch, 'none of them spent an epoch');
  await verbs.addMember({ id: 'spare', address: at, ...base }, timeoutMs);
  const added = (await verbs.members(timeoutMs)).epoch;
  await again({
    what: 'add',
    overGrpc: () => verbs.addMember({ id: 'spare', address: at, ...base }, timeoutMs),
    overHttp: ['POST', '/v1/chain/members', { id: 'spare', address: at }],
    line: ['chain', 'add', 'spare', at],
  });
  t.equal((await verbs.members(timeoutMs)).epoch, added, 'what is repeated is done once');
});

t.test('changes of the coordinators that are refused', async (t) => {
  const address = lab.named(c1).grpc;
  await over({
    what: 'a coordinator that exists',
    ...{ reason: 'MEMBER_EXISTS', http: 400, exit: 1 },
    overGrpc: () => verbs.joinCluster(c1, at, timeoutMs),
    overHttp: ['POST', '/v1/cluster/members', { id: c1, address: at }],
    line: ['cluster', 'add', c1, at],
  });
  await over({
    what: 'the address of a coordinator',
    ...{ reason: 'ADDRESS_IN_USE', http: 400, exit: 1 },
    overGrpc: () => verbs.joinCluster('c9', address, timeoutMs),
    overHttp: ['POST', '/v1/cluster/members', { id: 'c9', address }],
    line: ['cluster', 'add', 'c9', address],
  });
  await over({
    what: 'a coordinator that there is not',
    ...{ reason: 'MEMBER_NOT_FOUND', http: 404, exit: 3 },
    overGrpc: () => verbs.removeFromCluster('nobody', timeoutMs),
    overHttp: ['DELETE', '/v1/cluster/members/nobody'],
    line: ['cluster', 'remove', 'nobody'],
  });
  await verbs.transferLeadership(c1, timeoutMs);
  await lab.kill(c3);
  await over({
    what: 'leadership for one that does not answer',
    ...{ reason: 'MEMBER_BEHIND', http: 400, exit: 1 },
    overGrpc: async () => {
      // Until it was noticed the leader would try.
      await new Promise((resolve) => setTimeout(resolve, 500));
      return verbs.transferLeadership(c3, timeoutMs);
    },
    overHttp: ['POST', '/v1/cluster/leader', { id: c3 }],
    line: ['cluster', 'transfer', c3],
  });
  await over({
    what: 'a removal that would lose the majority',
    ...{ reason: 'LAST_MAJORITY', http: 400, exit: 1 },
    overGrpc: () => verbs.removeFromCluster(c2, timeoutMs),
    overHttp: ['DELETE', `/v1/cluster/members/${c2}`],
    line: ['cluster', 'remove', c2],
  });
  // One that was never started: it is taken in, and never catches up.
  await verbs.joinCluster('c9', '127.0.0.1:7', timeoutMs);
  await again({
    what: 'a coordinator that was added already',
    overGrpc: () => verbs.joinCluster('c9', '127.0.0.1:7', timeoutMs),
    overHttp: ['POST', '/v1/cluster/members', { id: 'c9', address: '127.0.0.1:7' }],
    line: ['cluster', 'add', 'c9', '127.0.0.1:7'],
  });
  await over({
    what: 'leadership for a learner that has not caught up',
    ...{ reason: 'MEMBER_BEHIND', http: 400, exit: 1 },
    overGrpc: () => verbs.transferLeadership('c9', timeoutMs),
    overHttp: ['POST', '/v1/cluster/leader', { id: 'c9' }],
    line: ['cluster', 'transfer', 'c9'],
  });
  await over({
    what: 'another one while a new one has not caught up',
    ...{ reason: 'MEMBER_BEHIND', http: 400, exit: 1 },
    overGrpc: () => verbs.joinCluster('c10', '127.0.0.1:6', timeoutMs),
    overHttp: ['POST', '/v1/cluster/members', { id: 'c10', address: '127.0.0.1:6' }],
    line: ['cluster', 'add', 'c10', '127.0.0.1:6'],
  });
  await verbs.removeFromCluster('c9', timeoutMs);
  await again({
    what: 'a coordinator that was removed already',
    overGrpc: () => verbs.removeFromCluster('c9', timeoutMs),
    overHttp: ['DELETE', '/v1/cluster/members/c9'],
    line: ['cluster', 'remove', 'c9'],
  });
  await over({
    what: 'a coordinator that was removed',
    ...{ reason: 'MEMBER_REMOVED', http: 400, exit: 1 },
    overGrpc: () => verbs.joinCluster('c9', '127.0.0.1:7', timeoutMs),
    overHttp: ['POST', '/v1/cluster/members', { id: 'c9', address: '127.0.0.1:7' }],
    line: ['cluster', 'add', 'c9', '127.0.0.1:7'],
  });
  t.same(
    Object.keys((await verbs.status(timeoutMs)).members).sort(),
    [c1, c2, c3].sort(),
    'nothing of it was done',
  );
});

t.test('without a leader', async (t) => {
  await lab.kill(c2);
  await over({
    what: 'who is in the chain',
    ...{ reason: 'NO_LEADER', http: 503, exit: 4 },
    overGrpc: async () => {
      // The leader that is left notices after two election timeouts.
      while ((await verbs.status(timeoutMs)).leader !== '') {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      return verbs.members(timeoutMs);
    },
    overHttp: ['GET', '/v1/chain/members'],
    line: ['chain', 'members'],
  });
  await over({
    what: 'a change of the chain',
    ...{ reason: 'NO_LEADER', http: 503, exit: 4 },
    overGrpc: () => verbs.removeMember({ id: 'spare', expectedEpoch: 0 }, timeoutMs),
    overHttp: ['DELETE', '/v1/chain/members/spare'],
    line: ['chain', 'remove', 'spare'],
  });
  await over({
    what: 'a change of the coordinators',
    ...{ reason: 'NO_LEADER', http: 503, exit: 4 },
    overGrpc: () => verbs.removeFromCluster(c3, timeoutMs),
    overHttp: ['DELETE', `/v1/cluster/members/${c3}`],
    line: ['cluster', 'remove', c3],
  });
  t.ok((await verbs.members(timeoutMs, true)).members.length > 0, 'what is known is told as such');
});
