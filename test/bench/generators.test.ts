import t from 'tap';
import { GetRequest } from '../../src/gen/keychaindb/v1/kv.js';
import { grpcFrame } from '../../tools/bench/frame.js';
import { spread, together } from '../../tools/bench/generators/generator.js';
import { h2loadLine, h2loadReport } from '../../tools/bench/generators/h2load.js';
import { chooser, keyOf } from '../../tools/bench/generators/keys.js';
import { Latencies } from '../../tools/bench/generators/latencies.js';
import { Schedule } from '../../tools/bench/generators/schedule.js';
import { wrkReport, wrkScript } from '../../tools/bench/generators/wrk.js';
import { protocols } from '../../tools/bench/protocols.js';
import { SeededRandom } from '../sim/schedule.js';

const h2loadText = `finished in 1.01s, 920.00 req/s, 74.26KB/s
requests: 920 total, 928 started, 920 done, 917 succeeded, 3 failed, 2 errored, 1 timeout
status codes: 924 2xx, 0 3xx, 0 4xx, 0 5xx
time for request:      696us     79.69ms      8.65ms     11.13ms    90.43%`;

const wrkText = `Running 1s test @ http://127.0.0.1:40231/
  1 threads and 2 connections
  Latency Distribution
     50%  327.00us
     99%   28.76ms
  2730 requests in 1.02s, 0.87MB read
  Socket errors: connect 1, read 2, write 0, timeout 4
  Non-2xx or 3xx responses: 30
Requests/sec:   2684.79`;

t.test('a gRPC message goes in a frame with its length before it', async (t) => {
  t.same([...grpcFrame(Uint8Array.of(7, 8))], [0, 0, 0, 0, 2, 7, 8]);
  t.equal(grpcFrame(new Uint8Array(70_000)).readUInt32BE(1), 70_000);
});

t.test('what h2load and wrk print is read, refusals apart', async (t) => {
  t.same(h2loadReport(h2loadText), { seconds: 1.01, cpuMs: 0, answered: 917, failed: 3 });
  t.equal(h2loadReport(h2loadText.replace('1.01s', '950.00ms')).seconds, 0.95);
  t.same(wrkReport(wrkText), { seconds: 1.02, cpuMs: 0, answered: 2_700, failed: 37 });
  t.equal(wrkReport(wrkText.replace(/^.*(Socket|Non-2xx).*\n/gm, '')).failed, 0);
  t.throws(() => h2loadReport('could not connect'), /something else/);
  t.throws(() => wrkReport('unable to connect'), /something else/);
});

t.test('h2load is told connections, streams, time and the headers of gRPC', async (t) => {
  const plan = {
    ...{ addresses: ['h:1'], path: '/s/M', message: new Uint8Array() },
    ...{ connections: 6, streams: 16, seconds: 3 },
  };
  const line = h2loadLine(plan, 'h:1', 2, '/tmp/body').join(' ');
  t.equal(
    line,
    'h2load -t 1 -c 2 -m 16 -D 3 -d /tmp/body -H content-type: application/grpc -H te: trailers http://h:1/s/M',
  );
});

t.test('the requests of wrk have keys and values as each system wants them', async (t) => {
  const plan = { ...{ addresses: [], connections: 1, seconds: 1 }, value: Buffer.from('v!') };
  const own = wrkScript({ ...plan, keys: ['a/1'], shape: protocols.keychaindb.http.read });
  t.match(own, 'wrk.format("GET", "/v1/keys/a%2F1", headers, nil)');
  const put = wrkScript({ ...plan, keys: ['a/1'], shape: protocols.keychaindb.http.write });
  t.match(put, `'{"key":"a/1","value":"' .. value .. '"}'`);
  t.match(put, 'local value = "diE="');
  const etcd = wrkScript({ ...plan, keys: ['a/1'], shape: protocols.etcd.http.read });
  t.match(etcd, `"POST", "/v3/kv/range", headers, '{"key":"YS8x"}'`);
});

t.test('connections are spread evenly, and no address is left out', async (t) => {
  t.same(spread(7, 3), [3, 2, 2]);
  t.same(spread(1, 3), [1, 1, 1]);
  const one = { seconds: 1, cpuMs: 5, answered: 10, failed: 1 };
  t.same(together([one, { ...one, seconds: 2 }]), {
    ...{ seconds: 2, cpuMs: 10, answered: 20, failed: 2 },
  });
});

t.test('an open loop is due evenly, whatever was late', async (t) => {
  const schedule = new Schedule(1_000, 100, 0.05);
  t.equal(schedule.take(999), undefined, 'nothing before its time');
  t.equal(schedule.take(1_000), 1_000);
  t.equal(schedule.next, 1_010);
  t.equal(schedule.take(1_009), undefined);
  t.equal(schedule.take(1_035), 1_010, 'late ones count from when they were due');
  t.equal(schedule.take(1_035), 1_020);
  t.equal(schedule.take(1_035), 1_030);
  t.equal(schedule.take(1_035), undefined);
  t.equal(schedule.take(2_000), 1_040);
  t.equal(schedule.take(2_000), undefined, 'five in a twentieth of a second');
  t.equal(schedule.next, undefined);
});

t.test('percentiles are those of what was added', async (t) => {
  const latencies = new Latencies();
  for (let ms = 1; ms <= 1_000; ms += 1) latencies.add(ms);
  const { count, p50, p99, max, mean } = latencies.latency;
  t.equal(count, 1_000);
  const within = (value: number, wanted: number): boolean =>
    Math.abs(value - wanted) <= wanted / 500;
  t.ok(within(p50, 500), `${p50}`);
  t.ok(within(p99, 990), `${p99}`);
  t.ok(within(max, 1_000), `${max}`);
  t.ok(within(mean, 500.5), `${mean}`);
  t.equal(new Latencies().latency.count, 0);
});

t.test('zipf keys are skewed as in YCSB, uniform ones are not, and one is one', async (t) => {
  const random = new SeededRandom(7);
  const part = (choice: 'uniform' | 'zipf'): number => {
    const choose = chooser(
      choice,
      10_000,
      () => random.bytes(4).reduce((n, b) => n / 256 + b, 0) / 256,
    );
    let first = 0;
    for (let i = 0; i < 20_000; i += 1) {
      const index = choose();
      if (index < 0 || index >= 10_000) t.fail(`${index}`);
      if (index === 0) first += 1;
    }
    return first / 20_000;
  };
  const zipf = part('zipf');
  t.ok(zipf > 0.08 && zipf < 0.13, `${zipf}`);
  t.ok(part('uniform') < 0.01);
  t.equal(chooser('one', 10_000, () => 0.9)(), 0);
  t.equal(keyOf(3), 'bench/3');
});

t.test('messages of etcd are those of its .proto', async (t) => {
  const { etcd, keychaindb } = protocols;
  t.same([...etcd.get('k')], [10, 1, 107]);
  t.same([...etcd.put('k', Uint8Array.of(1, 2))], [10, 1, 107, 18, 2, 1, 2]);
  // RangeResponse { header { revision: 5 }, kvs { key: "k", mod_revision: 5, value: "v" }, count: 1 }
  const answer = Uint8Array.of(10, 2, 24, 5, 18, 8, 10, 1, 107, 24, 5, 42, 1, 118, 32, 1);
  t.same(etcd.found(answer), { value: Uint8Array.of(118), isDirty: false });
  t.same(etcd.found(Uint8Array.of(10, 2, 24, 5)), { value: undefined, isDirty: false });
  t.equal(GetRequest.decode(keychaindb.get('k', 'node-3')).node, 'node-3');
});
