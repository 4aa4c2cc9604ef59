import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { RaftService } from '../../src/gen/keychaindb/v1/raft.js';
import { Connections, dialBidi, serveBidi } from '../../src/wire/grpc-channel.js';
import { listen } from '../../src/wire/grpc-server.js';
import { Handshake } from '../../src/wire/handshake.js';

t.test('a channel that its acceptor closes at once closes at the other end too', async (t) => {
  const process = 'node n1';
  const listener = await listen({
    address: '127.0.0.1:0',
    flag: '--listen',
    handshake: new Handshake({ process, clock: systemClock, refused: () => undefined }),
    services: [
      {
        definition: RaftService,
        implementation: {
          // As an incarnation does that is over: who dials must find the next one.
          messages: serveBidi((channel) => {
            channel.close('it is over');
            return { message: () => undefined, closed: () => undefined };
          }),
        },
      },
    ],
  });
  t.teardown(() => listener.close());
  const connections = new Connections();
  t.teardown(() => connections.close());
  const reason = await new Promise<string>((resolve) => {
    dialBidi(connections, 'raft', RaftService.messages).dial(listener.address, {
      message: () => undefined,
      closed: resolve,
    });
  });
  t.equal(reason, 'ended by the server');
});
