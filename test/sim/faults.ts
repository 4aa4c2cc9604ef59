import { KeychainError } from '../../src/base/errors.js';
import type { CoordinatorHandle } from '../../src/coordinator/runtime.js';
import { MemberState } from '../../src/gen/keychaindb/v1/coordinator.js';
import { StoredObject } from '../../src/gen/keychaindb/v1/log.js';
import { blockKey, blockPrefix, endOfPrefix, objectPrefix } from '../../src/log/keys.js';
import type { MemoryEngine } from '../../src/log/memory-engine.js';
import { seal, unseal } from '../../src/log/record.js';
import { addressOf, type Place, type SimCluster } from './cluster.js';
import { SeededRandom } from './schedule.js';
import { snapshotBreaks } from './snapshot-faults.js';

/** One fault of a run's schedule. It draws its chances from its own seed: others can be left out around it. */
export interface PlannedFault {
  readonly index: number;
  /** Milliseconds after the faults begin. */
  readonly at: number;
  readonly kind: FaultKind;
  readonly seed: number;
}

export type Fault = (weather: Weather, random: SeededRandom) => void;

/** What faults share: the cluster, and what they undo later. */
export class Weather {
  readonly cluster: SimCluster;
  /** Cuts, clogs and pauses that are not over. */
  active = 0;
  #isOver = false;

  constructor(cluster: SimCluster) {
    this.cluster = cluster;
  }

  inject({ kind, seed }: PlannedFault): void {
    // What a chain cannot bear together is not asked of it.
    if (this.#isOver || this.cluster.isFragile) return;
    faults[kind](this, new SeededRandom(seed));
  }

  /** No fault begins any more, and none restarts what it ended. */
  end(): void {
    this.#isOver = true;
  }

  did(kind: FaultKind, where: string, what: string): void {
    this.cluster.coverage.count(`fault: ${kind}`);
    this.cluster.trace(where, what);
  }

  /** Undoes a fault after a while, also when faults are over. */
  undo(after: number, work: () => void): void {
    this.active += 1;
    this.cluster.schedule.after(after, () => {
      this.active -= 1;
      work();
    });
  }

  restartSoon(random: SeededRandom, place: Place): void {
    this.later(random.between(0, 60), () => {
      if (this.cluster.isDown(place)) this.cluster.start(place);
    });
  }

  restartLater(random: SeededRandom, place: Place): void {
    const after = random.chance(0.4) ? random.between(0, 100) : random.between(100, 4_000);
    this.cluster.schedule.after(after, () => {
      if (!this.#isOver && this.cluster.isDown(place)) this.cluster.start(place);
    });
  }

  later(after: number, work: () => unknown): void {
    this.cluster.schedule.after(after, () => {
      if (!this.#isOver) work();
    });
  }
}

function pickUp(
  { cluster }: Weather,
  random: SeededRandom,
  places: readonly Place[],
): Place | undefined {
  const up = places.filter((place) => !cluster.isDown(place));
  return up.length === 0 ? undefined : random.pick(up);
}

function crash(kind: Place['kind']): Fault {
  return (weather, random) => {
    const place = pickUp(weather, random, weather.cluster.of(kind));
    if (place === undefined) return;
    weather.did(`crash ${kind}`, place.id, 'is killed');
    weather.cluster.crash(place, random.chance(0.5));
    weather.restartLater(random, place);
  };
}

const powerCut: Fault = (weather, random) => {
  weather.did('power cut', 'all', 'lose power');
  for (const place of weather.cluster.places) {
    if (!random.chance(0.85)) continue;
    weather.cluster.crash(place, true);
    weather.restartLater(random, place);
  }
};

/** All coordinators lose power: what they promised each other without a sync is gone. */
const coordinatorsLosePower: Fault = (weather, random) => {
  weather.did('coordinators lose power', 'coordinators', 'lose power');
  for (const place of weather.cluster.of('coordinator')) {
    if (!random.chance(0.7)) continue;
    weather.cluster.crash(place, true);
    weather.restartSoon(random, place);
  }
};

/** One coordinator is gone for a moment. */
const coordinatorBlinks: Fault = (weather, random) => {
  const place = pickUp(weather, random, weather.cluster.of('coordinator'));
  if (place === undefined) return;
  weather.did('coordinator blinks', place.id, 'is gone for a moment');
  weather.cluster.crash(place, random.chance(0.7));
  weather.restartSoon(random, place);
};

/** The coordinators fall into two parts, often only one way. */
const coordinatorsSplit: Fault = (weather, random) => {
  const all = weather.cluster.of('coordinator');
  const left = all.filter(() => random.chance(0.5));
  const right = all.filter((place) => !left.includes(place));
  cutBetween('coordinators split', weather, random, left, right);
};

/** All that serve die together, and come back one by one. */
const chainDies: Fault = (weather, random) => {
  weather.did('chain dies', 'nodes', 'are killed');
  for (const place of weather.cluster.of('node')) {
    weather.cluster.crash(place, random.chance(0.5));
    weather.restartLater(random, place);
  }
};

/** All that serve die together, and one of them has lost its folder when it returns: the others have the data. */
const chainDiesOneLost: Fault = (weather, random) => {
  const place = spare(weather, random);
  if (place === undefined) return;
  const { cluster } = weather;
  weather.did('chain dies, one folder lost', 'nodes', `are killed; ${place.id} loses its folder`);
  cluster.coverage.count('lost folder');
  place.hurt = cluster.memberIncarnation(place);
  for (const node of cluster.of('node')) {
    cluster.crash(node, random.chance(0.5));
    // The one that lost everything comes back first.
    const after = node === place ? random.between(0, 1_000) : random.between(500, 4_000);
    weather.later(after, () => cluster.isDown(node) && cluster.start(node));
  }
  place.disk = undefined;
};

/** Two neighbours die within a moment. */
const twoDie: Fault = (weather, random) => {
  const serving = weather.cluster.ghost.decided?.members ?? [];
  if (serving.length < 3) return;
  const first = random.int(serving.length - 1);
  weather.did('two die', 'nodes', 'two are killed');
  for (const member of serving.slice(first, first + 2)) {
    const place = weather.cluster.of('node').find(({ id }) => id === member.id);
    if (place === undefined) continue;
    weather.cluster.schedule.after(random.between(0, 50), () => {
      weather.cluster.crash(place, random.chance(0.5));
    });
    weather.later(random.between(1_500, 4_000), () => {
      if (weather.cluster.isDown(place)) weather.cluster.start(place);
    });
  }
};

const pause: Fault = (weather, random) => {
  const place = pickUp(weather, random, weather.cluster.places);
  const process = place?.process;
  if (process === undefined || process.isPaused) return;
  weather.did('pause', process.name, 'is paused');
  process.pause();
  weather.undo(random.between(20, 3_000), () => {
    weather.cluster.trace(process.name, 'goes on');
    process.resume();
  });
};

/** Two places lose each other, one way or both. */
const cutPair: Fault = (weather, random) => {
  const { places } = weather.cluster;
  const a = random.pick(places);
  const b = random.pick(places);
  if (a !== b) cutBetween('cut pair', weather, random, [a], [b]);
};

/** A node loses the coordinators only. */
const cutFromCoordinators: Fault = (weather, random) => {
  const node = random.pick(weather.cluster.of('node'));
  cutBetween('cut from coordinators', weather, random, [node], weather.cluster.of('coordinator'));
};

const isolate: Fault = (weather, random) => {
  const place = random.pick(weather.cluster.places);
  const rest = weather.cluster.places.filter((other) => other !== place);
  cutBetween('isolate', weather, random, [place], rest);
};

/** The places fall into two halves. */
const split: Fault = (weather, random) => {
  const left = weather.cluster.places.filter(() => random.chance(0.5));
  const right = weather.cluster.places.filter((place) => !left.includes(place));
  cutBetween('split', weather, random, left, right);
};

function cutBetween(
  kind: FaultKind,
  weather: Weather,
  random: SeededRandom,
  left: readonly Place[],
  right: readonly Place[],
): void {
  const { cluster } = weather;
  const isOneWay = random.chance(0.3);
  const names = (places: readonly Place[]): string => places.map((p) => p.id).join();
  weather.did(kind, 'network', `cut ${names(left)} ${isOneWay ? '>' : '|'} ${names(right)}`);
  const pairs = left.flatMap((a) => right.map((b) => [a.id, b.id] as const));
  for (const [a, b] of pairs) {
    cluster.network.cut(a, b);
    if (!isOneWay) cluster.network.cut(b, a);
  }
  weather.undo(random.between(100, 4_000), () => {
    cluster.trace('network', 'healed');
    for (const [a, b] of pairs) {
      cluster.network.heal(a, b);
      cluster.network.heal(b, a);
    }
  });
}

/** Links hold what is sent, and let it go one by one, in any order of links. */
const clog: Fault = (weather, random) => {
  const { cluster } = weather;
  const some = cluster.places.filter(() => random.chance(0.4));
  weather.did('clog', 'network', `clogged at ${some.map((p) => p.id).join()}`);
  for (const a of some) {
    for (const b of cluster.places) {
      if (a === b || !random.chance(0.7)) continue;
      const [from, to] = random.chance(0.5) ? [a.id, b.id] : [b.id, a.id];
      cluster.network.clog(from, to);
      weather.undo(random.between(50, 2_500), () => cluster.network.unclog(from, to));
    }
  }
};

const badWeather: Fault = (weather, random) => {
  const { network } = weather.cluster;
  weather.did('bad weather', 'network', 'breaks, slows, loses, doubles, overtakes');
  network.breakChance = random.chance(0.5) ? random.between(0, 0.02) : 0;
  network.slowMs = random.chance(0.5) ? random.between(0, 60) : 0;
  network.lossChance = random.chance(0.5) ? random.between(0, 0.1) : 0;
  network.duplicateChance = random.chance(0.5) ? random.between(0, 0.2) : 0;
  network.reorderChance = random.chance(0.5) ? random.between(0, 0.3) : 0;
  weather.undo(random.between(200, 3_000), () => network.calm());
};

/** An operator removes a member and adds it again. */
const removeAndAdd: Fault = (weather, random) => {
  const { cluster } = weather;
  const up = cluster.of('coordinator').filter((place) => place.coordinator !== undefined);
  if (up.length === 0) return;
  const { coordinator } = random.pick(up);
  const { id } = random.pick(cluster.of('node'));
  weather.did('operator removes and adds', 'operator', `removes ${id}`);
  const ignore = (): void => undefined;
  const after = random.between(0, 2_000);
  coordinator?.removeMember({ id, expectedEpoch: 0 }, 1_000).then(() => {
    cluster.schedule.after(after, () => {
      const added = { id, address: addressOf(id), spare: false, expectedEpoch: 0 };
      coordinator.addMember(added, 1_000).catch(ignore);
    });
  }, ignore);
};

/** A coordinator that an operator may ask, whoever leads. */
function asked({ cluster }: Weather, random: SeededRandom): CoordinatorHandle | undefined {
  const up = cluster.of('coordinator').filter((place) => place.coordinator !== undefined);
  return up.length === 0 ? undefined : random.pick(up).coordinator;
}

const refused = (): void => undefined;

/** An operator drains a node, and adds it again later, or doesn't. */
const drain: Fault = (weather, random) => {
  const { cluster } = weather;
  const { id } = random.pick(cluster.of('node'));
  weather.did('operator drains', 'operator', `drains ${id}`);
  const coordinator = asked(weather, random);
  const after = random.chance(0.7) ? random.between(0, 2_000) : undefined;
  coordinator?.drainMember({ id, expectedEpoch: 0 }, 1_000).then(() => {
    if (after === undefined) return;
    cluster.schedule.after(after, () => {
      const added = { id, address: addressOf(id), spare: false, expectedEpoch: 0 };
      coordinator.addMember(added, 1_000).catch(refused);
    });
  }, refused);
};

/** A node is told to end: it drains itself first, and ends whatever came of it; it is started again. */
const endNode: Fault = (weather, random) => {
  const { cluster } = weather;
  const place = pickUp(weather, random, cluster.of('node'));
  if (place === undefined) return;
  const { id, process } = place;
  weather.did('node ends', id, 'is told to end');
  const end = (): void => {
    if (place.process === process) cluster.crash(place, false);
    weather.restartSoon(random, place);
  };
  const coordinator = asked(weather, random);
  const drained = coordinator?.drainMember({ id, expectedEpoch: 0 }, 500) ?? Promise.resolve();
  const answersOn = random.between(0, 200);
  drained.then(() => cluster.schedule.after(answersOn, end), end);
};

/** An operator gives the chain another order: on the view that it has seen, or on one that is over. */
const reorder: Fault = (weather, random) => {
  const { cluster } = weather;
  const coordinator = asked(weather, random);
  const view = coordinator?.view;
  if (coordinator === undefined || view === undefined) return;
  const left = view.members.filter((m) => m.state === MemberState.SERVING).map((m) => m.id);
  const ids: string[] = [];
  while (left.length > 0) ids.push(...left.splice(random.int(left.length), 1));
  if (ids.length < 2) return;
  const expectedEpoch = random.chance(0.3) ? view.epoch - 1 : view.epoch;
  weather.did('operator reorders', 'operator', `orders ${ids.join()} on ${expectedEpoch}`);
  cluster.ghost.orders.add(expectedEpoch + 1);
  coordinator.reorderChain({ ids, expectedEpoch }, 1_000).catch(refused);
};

/** An operator makes a node a spare, and says how long the chain shall be. */
const spares: Fault = (weather, random) => {
  const { cluster } = weather;
  const coordinator = asked(weather, random);
  const nodes = cluster.of('node');
  const { id } = random.pick(nodes);
  const length = random.int(nodes.length + 1);
  weather.did('operator keeps spares', 'operator', `${id} as a spare, length ${length}`);
  coordinator?.setChainLength({ length, expectedEpoch: 0 }, 1_000).catch(refused);
  coordinator?.removeMember({ id, expectedEpoch: 0 }, 1_000).then(() => {
    const added = { id, address: addressOf(id), spare: true, expectedEpoch: 0 };
    coordinator.addMember(added, 1_000).catch(refused);
  }, refused);
};

/** All that serve die, and an operator gives them up too soon, but for one that it doesn't name. */
const recover: Fault = (weather, random) => {
  const { cluster } = weather;
  const first = asked(weather, random);
  const { id } = random.pick(cluster.of('node'));
  weather.did('operator recovers', 'operator', `would go on with ${id} alone`);
  const ask = (): void => {
    const coordinator = asked(weather, random);
    const serving = coordinator?.view?.members.filter((m) => m.state === MemberState.SERVING) ?? [];
    const lostIds = serving.slice(1).map((m) => m.id);
    coordinator?.recoverChain({ id, lostIds, expectedEpoch: 0 }, 1_000).catch((error: unknown) => {
      const isUnnamed = error instanceof KeychainError && error.message.includes('--lose');
      if (isUnnamed) cluster.coverage.count('recover refused');
    });
  };
  const die = (): void => {
    // A disk was hurt meanwhile.
    if (cluster.isFragile) return;
    for (const place of cluster.of('node')) {
      if (place.id === id) continue;
      cluster.crash(place, random.chance(0.5));
      const after = random.between(2_000, 4_000);
      weather.later(after, () => cluster.isDown(place) && cluster.start(place));
    }
    weather.later(random.between(800, 1_900), ask);
  };
  const soon = random.between(50, 400);
  first?.drainMember({ id, expectedEpoch: 0 }, 1_000).then(() => weather.later(soon, die), refused);
};

/** The wall clock of a process is set; its monotonic clock goes on. */
const wallJump: Fault = (weather, random) => {
  const { cluster } = weather;
  // The head's clock is the one that the log shows.
  const head = cluster.ghost.decided?.members[0]?.id;
  const heads = cluster.of('node').filter(({ id }) => id === head);
  const place = pickUp(weather, random, random.chance(0.5) ? heads : cluster.places);
  const far = random.chance(0.3) ? 3 * 3_600_000 : 30_000;
  const by = random.between(-far / 2, far);
  weather.did('wall clock jumps', place?.id ?? '', `its wall clock jumps by ${Math.round(by)} ms`);
  place?.process?.jumpWall(by);
};

const slowDisk: Fault = (weather, random) => {
  const place = random.pick(weather.cluster.places);
  const stall = random.between(50, 3_000);
  weather.did('disk stalls', place.id, `its disk answers nothing for ${Math.round(stall)} ms`);
  place.stalledUntil = weather.cluster.schedule.now + stall;
};

const failingDisk: Fault = (weather, random) => {
  const place = pickUp(weather, random, [
    ...weather.cluster.of('node'),
    ...weather.cluster.of('coordinator'),
  ]);
  if (place === undefined) return;
  const isFull = random.chance(0.5);
  weather.did('disk fails', place.id, isFull ? 'its disk is full' : 'its disk fails to sync');
  const error = new Error(isFull ? 'no space left on device' : 'input/output error');
  if (isFull) place.disk?.failWrites(error);
  else place.disk?.failSyncs(error);
};

/** A node that may lose what it has synced: another one serves with all of it, and nothing else is broken. */
function spare(weather: Weather, random: SeededRandom): Place | undefined {
  if (weather.active > 0) return undefined;
  const { cluster } = weather;
  const serving = (cluster.ghost.decided?.members ?? []).filter(
    (m) => m.state === MemberState.SERVING,
  );
  const able = cluster
    .of('node')
    .filter((p) => serving.some((m) => m.id === p.id) && p.disk !== undefined);
  const may = able.filter((place) => cluster.canSpare(place));
  return may.length === 0 ? undefined : random.pick(may);
}

function hurt(weather: Weather, random: SeededRandom, place: Place): void {
  place.hurt = weather.cluster.memberIncarnation(place);
  weather.cluster.schedule.after(random.between(0, 1_500), () => {
    if (weather.cluster.isDown(place)) weather.cluster.start(place);
  });
}

/** The data folder of a node is gone. */
const loseFolder: Fault = (weather, random) => {
  const place = spare(weather, random);
  if (place === undefined) return;
  weather.did('folder lost', place.id, 'loses its data folder');
  weather.cluster.coverage.count('lost folder');
  weather.cluster.crash(place, random.chance(0.5));
  place.disk = undefined;
  hurt(weather, random, place);
};

/** The folder of a node that hangs is given up, and another process takes its name: both live for a while. */
const usurp: Fault = (weather, random) => {
  const place = spare(weather, random);
  if (place === undefined) return;
  weather.did('name taken over', place.id, 'hangs, and another process takes its name');
  weather.cluster.coverage.count('lost folder');
  place.hurt = weather.cluster.memberIncarnation(place);
  weather.cluster.usurp(place, random.between(100, 2_000));
};

/** While a node is down a record of its disk changes, or is gone. */
const damage: Fault = (weather, random) => {
  const place = spare(weather, random);
  if (place === undefined) return;
  weather.cluster.crash(place, true);
  const { disk } = place;
  const end = Buffer.from(endOfPrefix(blockPrefix));
  const first = Buffer.from(blockKey(0));
  const keys = (disk?.durableKeys ?? []).filter(
    (key) => Buffer.compare(key, first) >= 0 && Buffer.compare(key, end) < 0,
  );
  if (disk !== undefined && keys.length > 0) {
    const key = random.pick(keys);
    const isHole = random.chance(0.5);
    weather.did('record damaged', place.id, isHole ? 'a block is gone' : 'a block has changed');
    if (isHole) disk.lose(key);
    else disk.flipByte(key, random.int(20));
  }
  hurt(weather, random, place);
};

function objectKeys(disk: MemoryEngine): readonly Uint8Array[] {
  const end = Buffer.from(endOfPrefix(objectPrefix));
  return disk.durableKeys.filter(
    (key) => Buffer.compare(key, objectPrefix) >= 0 && Buffer.compare(key, end) < 0,
  );
}

/** An object's value becomes another one, with a right checksum, under a running node. */
export function alterObject(cluster: SimCluster, place: Place, random: SeededRandom): void {
  const { disk } = place;
  const keys = disk === undefined ? [] : objectKeys(disk);
  if (disk === undefined || keys.length === 0) return;
  const key = random.pick(keys);
  const sealed = disk.peek(key);
  if (sealed === undefined) return;
  const object = StoredObject.decode(unseal(key, sealed));
  const other = { ...object, value: Buffer.concat([object.value, Buffer.from('?')]) };
  const value = seal(key, StoredObject.encode(other).finish());
  disk.replace(key, value);
  place.altered = { key, value };
  cluster.coverage.count('fault: object altered');
  cluster.trace(place.id, 'an object is another one on its disk');
}

/** An object's record changes under a running node: it may refuse it, and never serve it. */
const rot: Fault = (weather, random) => {
  const nodes = weather.cluster.of('node');
  // One that is alone refuses it for ever, and keeps the rest.
  const place = nodes.length === 1 ? pickUp(weather, random, nodes) : spare(weather, random);
  const { disk } = place ?? {};
  if (place === undefined || disk === undefined) return;
  const keys = objectKeys(disk);
  if (keys.length === 0) return;
  weather.did('object rots', place.id, 'an object has changed on its disk');
  disk.flipByte(random.pick(keys), random.int(8));
  place.rotten = true;
};

/** A disk says yes to syncs and doesn't, for a while; then the power goes. */
const lyingDisk: Fault = (weather, random) => {
  const place = spare(weather, random);
  if (place === undefined) return;
  const { cluster } = weather;
  weather.did('disk lies', place.id, 'its disk says yes and does not sync');
  const { disk, process } = place;
  disk?.ignoreSyncs(true);
  cluster.schedule.after(random.between(50, 1_500), () => {
    if (place.process !== process || cluster.isDown(place)) return;
    if (weather.active > 0 || !cluster.canSpare(place)) {
      disk?.ignoreSyncs(false);
      return;
    }
    cluster.crashAsIs(place, true);
    hurt(weather, random, place);
  });
};

/** A coordinator's disk is damaged while it is down: it refuses to start. A majority stays. */
const coordinatorDamage: Fault = (weather, random) => {
  const { cluster } = weather;
  const all = cluster.of('coordinator');
  const whole = all.filter((place) => place.lost !== true);
  if (whole.length - 1 < Math.floor(all.length / 2) + 1) return;
  const place = pickUp(weather, random, whole);
  if (place === undefined) return;
  cluster.crash(place, false);
  const end = Buffer.from(endOfPrefix(blockPrefix));
  const first = Buffer.from(blockKey(0));
  const keys = (place.disk?.durableKeys ?? []).filter(
    (key) => Buffer.compare(key, first) >= 0 && Buffer.compare(key, end) < 0,
  );
  if (keys.length === 0) {
    weather.restartLater(random, place);
    return;
  }
  weather.did('coordinator damaged', place.id, 'a record of its log has changed');
  place.disk?.flipByte(random.pick(keys), random.int(20));
  cluster.start(place);
  place.lost = true;
};

/** Every kind, and how often it is drawn where the mix of a run has it. */
const faults = {
  'crash node': crash('node'),
  'crash coordinator': crash('coordinator'),
  'crash proxy': crash('proxy'),
  'power cut': powerCut,
  'coordinators lose power': coordinatorsLosePower,
  'coordinator blinks': coordinatorBlinks,
  'coordinators split': coordinatorsSplit,
  'chain dies': chainDies,
  'chain dies, one folder lost': chainDiesOneLost,
  'two die': twoDie,
  pause,
  'cut pair': cutPair,
  'cut from coordinators': cutFromCoordinators,
  isolate,
  split,
  clog,
  'bad weather': badWeather,
  'operator removes and adds': removeAndAdd,
  'operator drains': drain,
  'node ends': endNode,
  'operator reorders': reorder,
  'operator keeps spares': spares,
  'operator recovers': recover,
  'wall clock jumps': wallJump,
  'disk stalls': slowDisk,
  'disk fails': failingDisk,
  'folder lost': loseFolder,
  'name taken over': usurp,
  'record damaged': damage,
  'object rots': rot,
  'disk lies': lyingDisk,
  'coordinator damaged': coordinatorDamage,
  'snapshot breaks': snapshotBreaks,
} as const satisfies Readonly<Record<string, Fault>>;

export type FaultKind = keyof typeof faults;
export const faultKinds = Object.keys(faults) as readonly FaultKind[];

/** Drawn oftener than others. */
const common: readonly FaultKind[] = ['crash node', 'pause', 'cut pair'];

/** What makes leaders of the coordinators change, and gives them something to decide. */
const ofCoordinators: readonly FaultKind[] = [
  'crash coordinator',
  'coordinators lose power',
  'coordinator blinks',
  'coordinator blinks',
  'coordinators split',
  'coordinators split',
  'cut pair',
  'pause',
  'disk stalls',
  'bad weather',
  'operator removes and adds',
  'operator removes and adds',
  'operator drains',
  'operator reorders',
  'operator reorders',
  'operator keeps spares',
];

/** The faults of a run, of a mix that the seed draws (swarm testing: not every kind in every run). */
export function planFaults(random: SeededRandom, milliseconds: number): readonly PlannedFault[] {
  // Some runs are all about the coordinators, at a pace that would leave no chain standing.
  const isAboutCoordinators = random.chance(0.2);
  const kinds = isAboutCoordinators ? ofCoordinators : [...faultKinds, ...common];
  const mix = kinds.filter(() => random.chance(isAboutCoordinators ? 0.7 : 0.4));
  if (mix.length === 0) return [];
  const everyMs = isAboutCoordinators ? random.between(20, 300) : random.between(200, 2_500);
  const planned: PlannedFault[] = [];
  for (let at = random.between(0, 2 * everyMs); at < milliseconds; ) {
    planned.push({ index: planned.length, at, kind: random.pick(mix), seed: random.uint32() });
    at += random.between(0, 2 * everyMs);
  }
  return planned;
}
