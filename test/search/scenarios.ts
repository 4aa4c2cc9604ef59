import type { Scenario } from './search.js';

/** From a chain of two: one is JOINING, and the tail's report that it may serve is on its way. */
const joining = ['startSync c', 'report', 'apply', 'report'];

/** What is searched in CI, and further by `tools/search`: the situations of docs/protocol.md. */
export const scenarios: readonly Scenario[] = [
  {
    name: 'a member is cut off and removed while a write is under way',
    members: ['a', 'b', 'c'],
    waiting: [],
    channels: ['view', 'data'],
    budget: { hold: 3, write: 1, evict: 1, tick: 3 },
    depth: 8,
  },
  {
    name: 'two members are removed one after the other',
    members: ['a', 'b', 'c'],
    waiting: [],
    channels: ['view'],
    budget: { hold: 2, evict: 2, tick: 4, write: 1 },
    depth: 9,
  },
  {
    name: 'a member is promoted while the others go',
    members: ['a', 'b'],
    waiting: ['c'],
    first: joining,
    channels: ['view'],
    budget: { hold: 2, evict: 2, tick: 4, write: 1 },
    depth: 9,
  },
  {
    name: 'a member joins while writes go on and the tail dies',
    members: ['a', 'b'],
    waiting: ['c'],
    first: ['startSync c'],
    channels: ['data', 'ack', 'view b'],
    budget: { hold: 2, report: 2, crash: 1, evict: 1, write: 1, tick: 3, release: 1 },
    depth: 9,
  },
  {
    name: 'a member joins a chain of one, which is removed',
    members: ['a'],
    waiting: ['b'],
    first: ['startSync b'],
    channels: ['view', 'data', 'ack'],
    budget: { hold: 2, report: 2, evict: 1, write: 1, tick: 3, release: 1 },
    depth: 9,
  },
  {
    name: 'members crash, restart and go on alone',
    members: ['a', 'b'],
    waiting: [],
    channels: ['view', 'data', 'disk'],
    budget: { hold: 2, crash: 2, restart: 2, write: 2, tick: 3, evict: 1 },
    depth: 9,
  },
  {
    name: 'a write is staged when the chain changes, and its request is repeated',
    members: ['a', 'b', 'c'],
    waiting: [],
    channels: ['data', 'ack'],
    budget: { hold: 2, write: 1, retry: 2, crash: 1, evict: 1, tick: 3, release: 1 },
    depth: 8,
  },
  {
    name: 'dirty reads while the chain changes',
    members: ['a', 'b', 'c'],
    waiting: [],
    channels: ['view a', 'view c', 'data b', 'ack c', 'watermark'],
    budget: { hold: 3, write: 1, read: 2, evict: 1, tick: 2, release: 2 },
    depth: 8,
  },
  {
    name: 'reader and tail are removed together',
    members: ['a', 'b', 'c'],
    waiting: [],
    first: ['hold view a', 'hold view c', 'hold data a>b'],
    channels: ['watermark'],
    budget: { hold: 2, write: 1, read: 1, evict: 2, tick: 4, release: 2 },
    depth: 9,
  },
];
