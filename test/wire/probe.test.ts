import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import t from 'tap';
import { tcpProber } from '../../src/wire/probe.js';

const patienceMs = 10_000;

/** Listens, says where, and does nothing more for ever. */
const standsStill = `
  const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
    require('node:fs').writeSync(1, server.address().port + '\\n');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  });
`;

t.test('a port at which nobody listens refuses, one that is listened at accepts', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  t.equal(await tcpProber.probe(`127.0.0.1:${port}`, patienceMs), 'accepted');
  server.close();
  await once(server, 'close');
  t.equal(await tcpProber.probe(`127.0.0.1:${port}`, patienceMs), 'refused');
});

t.test(
  'an address in brackets is one of IPv6; a name that nobody knows refuses nothing',
  async (t) => {
    t.not(await tcpProber.probe('[::1]:1', patienceMs), 'accepted');
    t.equal(await tcpProber.probe('nobody.invalid:1', patienceMs), 'silent');
  },
);

t.test('what is no address says nothing', async (t) => {
  for (const address of ['127.0.0.1:65536', 'host']) {
    t.equal(await tcpProber.probe(address, patienceMs), 'silent', address);
  }
});

t.test('a process that stands still does not refuse, also where its queue is full', async (t) => {
  const child = spawn(process.execPath, ['-e', standsStill], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  const port = Number(line);
  t.equal(await tcpProber.probe(`127.0.0.1:${port}`, patienceMs), 'accepted');
  const sockets: Socket[] = [];
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  // One after the other fills the queue; the kernel drops what comes then, and answers nothing.
  let answer = 'accepted';
  while (answer === 'accepted' && sockets.length < 64) {
    sockets.push(connect(port, '127.0.0.1').on('error', () => undefined));
    answer = await tcpProber.probe(`127.0.0.1:${port}`, 300);
  }
  t.equal(answer, 'silent');
});
