import type { Scenario } from './search.js';

/** What is searched in CI, and further by `tools/search`: the situations of docs/protocol.md. */
export const scenarios: readonly Scenario[] = [
  {
    name: 'a member is cut off and removed while a write is under way',
    members: ['a', 'b', 'c'],
    waiting: [],
    channels: ['view', 'data', 'promise'],
    budget: { hold: 3, write: 1, evict: 1, tick: 3, release: 1 },
    depth: 9,
  },
  {
    name: 'two members are removed',
    members: ['a', 'b', 'c'],
    waiting: [],
    channels: ['view', 'stopped'],
    budget: { hold: 3, evict: 2, tick: 3, write: 1 },
    depth: 9,
  },
  {
    name: 'a member joins while another goes',
    members: ['a', 'b'],
    waiting: ['c'],
    first: ['startSync c'],
    channels: ['view', 'data', 'ack'],
    budget: { hold: 2, report: 2, evict: 2, write: 1, tick: 2, release: 1 },
    depth: 9,
  },
  {
    name: 'a member joins a chain of one',
    members: ['a'],
    waiting: ['b'],
    first: ['startSync b'],
    channels: ['view', 'data', 'ack', 'promise', 'stopped'],
    budget: { hold: 2, report: 2, evict: 1, write: 2, tick: 3, release: 1, crash: 1 },
    depth: 9,
  },
  {
    name: 'members crash, restart and go on alone',
    members: ['a', 'b'],
    waiting: [],
    channels: ['view', 'disk', 'data'],
    budget: { hold: 2, crash: 2, restart: 2, write: 2, tick: 2, evict: 1, release: 1 },
    depth: 8,
  },
  {
    name: 'dirty reads while the chain changes',
    members: ['a', 'b', 'c'],
    waiting: [],
    channels: ['view', 'data b', 'ack c', 'watermark'],
    budget: { hold: 3, write: 1, read: 2, evict: 1, tick: 2, release: 2 },
    depth: 8,
  },
];
