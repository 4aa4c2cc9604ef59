import t from 'tap';
import { noBytes } from '../../src/base/bytes.js';
import { isSo } from '../../src/cmd/status.js';
import {
  ClusterStatusResponse,
  MemberState,
  NodeStatus,
} from '../../src/gen/keychaindb/v1/coordinator.js';
import { statusReport } from '../../src/proxy/status.js';
import { memberOf, viewOf } from '../proxy/views.js';

t.test('a chain serves once one who serves is heard, not because it did before', async (t) => {
  const view = { ...viewOf(7, []), members: [memberOf('a', MemberState.SERVING)] };
  const cluster = ClusterStatusResponse.decode(noBytes);
  const heard = {
    ...NodeStatus.decode(noBytes),
    id: 'a',
    incarnation: view.members[0]?.incarnation ?? 0,
  };
  const isServing = (nodes: readonly NodeStatus[]): boolean =>
    isSo(statusReport({ view, nodes, refused: [] }, cluster), 'serving');
  t.equal(isServing([]), false);
  t.equal(isServing([heard]), true);
});
