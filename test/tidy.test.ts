import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = fileURLToPath(new URL('../..', import.meta.url));
const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !file.startsWith('gen/'))
  .map((file) => ({ file, text: readFileSync(join(root, 'src', file), 'utf8') }));

/** Shells, and what only shells use: the rest of these rooms is pure. */
const shells: Readonly<Record<string, readonly string[]>> = {
  raft: ['runtime', 'peer-links', 'durable-record', 'raft'],
  coordinator: [
    ...['runtime', 'service', 'registry-machine', 'tracing', 'replay', 'group', 'status-call'],
  ],
  chain: [
    ...[
      'runtime',
      'service',
      'objects',
      'state-scan',
      'state-chunk',
      'node-store',
      'open-store',
      'pending',
      'requests',
    ],
    ...['sessions', 'forwarder', 'links', 'peers', 'heartbeats', 'inspect', 'replay', 'tracing'],
    ...['hop-store', 'state-hash', 'node'],
    ...['base', 'compaction', 'install', 'snapshot-feed', 'pace'],
  ],
  proxy: [
    ...['runtime', 'service', 'session', 'node-link', 'gateway', 'routes'],
    ...['http-body', 'http-fields', 'json', 'tracing'],
  ],
  telemetry: [
    'exporter',
    'ended-span',
    'otlp-json',
    'log',
    'metrics',
    'metrics-sum',
    'peers',
    'service',
    'traces',
    'wall-time',
  ],
};

t.test('cores know no clock, no chance, no I/O and no RxJS', async (t) => {
  for (const { file, text } of sources) {
    const [room = '', name = ''] = file.replace(/\.ts$/, '').split('/');
    const known = shells[room];
    if (known === undefined || known.includes(name)) continue;
    t.notMatch(text, /from '(rxjs|node:|@grpc|rocksdb)/, file);
    t.notMatch(
      text,
      /Date\.now|Math\.random|performance\.now|setTimeout|new Promise|\basync\b/,
      file,
    );
  }
});

t.test('time and chance come through the ports alone', async (t) => {
  // What talks to the world by itself: the ports, the edges of gRPC and HTTP, and the binary.
  const edges =
    /^(base\/(clock|random)|wire\/|cmd\/|log\/(rocks-engine|data-folder)|chain\/service)/;
  for (const { file, text } of sources) {
    if (edges.test(file)) continue;
    t.notMatch(
      text,
      /Date\.now\(|Math\.random\(|performance\.now\(|setTimeout\(|setInterval\(/,
      file,
    );
  }
});

t.test('files are nouns, and none is a drawer', async (t) => {
  for (const { file } of sources) {
    t.notMatch(file, /(^|\/)(utils?|helpers?|common|types|misc)(\.|\/)/, file);
    t.match(file, /^[a-z0-9-]+(\/[a-z0-9.-]+)+$/, file);
  }
});

t.test('every room has a README', async (t) => {
  const rooms = readdirSync(join(root, 'src')).filter((room) => room !== 'gen');
  for (const room of rooms) {
    t.ok(readdirSync(join(root, 'src', room)).includes('README.md'), room);
  }
});

t.test('only packages of package.json are imported', async (t) => {
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  for (const { file, text } of sources) {
    for (const [, name = ''] of text.matchAll(/from '([^.'][^']*)'/g)) {
      if (name.startsWith('node:')) continue;
      const bare = name.startsWith('@')
        ? name.split('/').slice(0, 2).join('/')
        : name.split('/')[0];
      t.ok(bare !== undefined && bare in dependencies, `${file}: ${name}`);
    }
  }
});
