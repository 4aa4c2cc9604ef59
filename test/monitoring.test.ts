import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { metricNames } from './metric-names.js';
import { findPromtool } from './promtool.js';

/* What stands in monitoring/ speaks of metrics that there are, and of sections of the operations guide that there are. */

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const alerts = read('monitoring/prometheus/alerts.yml');
const dashboard = read('monitoring/grafana/keychaindb.json');
const known = metricNames(read('docs/names.md'));

function metricsIn(text: string): readonly string[] {
  const names = text.match(/\bkeychaindb_[a-z0-9_]+/g) ?? [];
  return [...new Set(names.map((name) => name.replace(/_(bucket|sum|count)$/, '')))];
}

t.test('alerts and dashboard speak of metrics that stand in the list of names', async (t) => {
  for (const name of [...metricsIn(alerts), ...metricsIn(dashboard)]) t.ok(known.has(name), name);
});

t.test('every alert is answered by a section of the operations guide', async (t) => {
  const sections = new Set(
    [...read('docs/operations.md').matchAll(/^### (\w+)$/gm)].map(([, name]) => name),
  );
  const named = [...alerts.matchAll(/- alert: (\w+)/g)].map(([, name]) => name ?? '');
  t.ok(named.length >= 15);
  for (const name of named) {
    t.ok(sections.has(name), name);
    t.match(alerts, `runbook: docs/operations.md#${name.toLowerCase()}\n`);
  }
  t.equal(sections.size, named.length);
});

t.test('the dashboard is what Grafana takes', async (t) => {
  const { uid, panels } = JSON.parse(dashboard) as {
    readonly uid: string;
    readonly panels: readonly {
      readonly id: number;
      readonly type: string;
      readonly description?: string;
      readonly targets?: readonly { readonly expr: string }[];
    }[];
  };
  t.equal(uid, 'keychaindb');
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  for (const { type, description, targets } of panels) {
    if (type === 'row') continue;
    t.ok((description ?? '').length > 0 && (targets ?? []).length > 0);
  }
});

t.test('promtool accepts the rules and their tests', async (t) => {
  const promtool = findPromtool();
  if (promtool === undefined) {
    t.comment('skipped: there is no promtool on this machine (Debian: prometheus)');
    return;
  }
  const cwd = join(root, 'monitoring/prometheus');
  for (const args of [
    ['check', 'rules', 'alerts.yml'],
    ['check', 'config', 'prometheus.yml'],
    ['test', 'rules', 'alerts_test.yml'],
  ]) {
    t.match(execFileSync(promtool, args, { cwd }).toString(), 'SUCCESS', args.join(' '));
  }
});
