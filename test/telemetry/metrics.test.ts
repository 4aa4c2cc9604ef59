import t from 'tap';
import { Metrics } from '../../src/telemetry/metrics.js';
import { Traces } from '../../src/telemetry/traces.js';

/** Microseconds: the kernel divides the same time between user and system anew each time. */
const slack = 20_000;

t.test(
  'CPU time counts from the start of the process, whenever it is first asked for',
  async (t) => {
    const before = process.cpuUsage();
    const own = { service: 'keychaindb-node', instance: 'node-1' };
    const text = await new Metrics(own, '1.0.0', new Traces(own)).text();
    const after = process.cpuUsage();
    const shown = (kind: string): number =>
      Number(new RegExp(`^process_cpu_${kind}seconds_total\\{.*\\} (.*)$`, 'm').exec(text)?.[1]) *
      1e6;
    for (const [kind, from, to] of [
      ['user_', before.user, after.user],
      ['system_', before.system, after.system],
      ['', before.user + before.system, after.user + after.system],
    ] as const) {
      const isBetween = shown(kind) >= from - slack && shown(kind) <= to + slack;
      t.ok(isBetween, `${shown(kind)} of ${from} to ${to}: process_cpu_${kind}seconds_total`);
    }
  },
);
