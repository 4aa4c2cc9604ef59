import { addressOf, type Place, type SimCluster } from './cluster.js';
import type { SeededRandom } from './schedule.js';

type Fault = (cluster: SimCluster, random: SeededRandom) => void;

function restartLater(cluster: SimCluster, random: SeededRandom, place: Place): void {
  const after = random.chance(0.4) ? random.between(0, 100) : random.between(100, 4_000);
  cluster.schedule.after(after, () => {
    if (cluster.isDown(place)) cluster.start(place);
  });
}

function crash(kind: Place['kind']): Fault {
  return (cluster, random) => {
    const up = cluster.of(kind).filter((place) => !cluster.isDown(place));
    if (up.length === 0) return;
    const place = random.pick(up);
    cluster.crash(place, random.chance(0.5));
    restartLater(cluster, random, place);
  };
}

const powerCut: Fault = (cluster, random) => {
  for (const place of cluster.places) {
    if (random.chance(0.85)) {
      cluster.crash(place, true);
      restartLater(cluster, random, place);
    }
  }
};

const pause: Fault = (cluster, random) => {
  const up = cluster.places.filter((place) => !cluster.isDown(place));
  if (up.length === 0) return;
  const { process } = random.pick(up);
  if (process === undefined || process.isPaused) return;
  cluster.trace(`${process.name} is paused`);
  process.pause();
  cluster.schedule.after(random.between(20, 3_000), () => {
    cluster.trace(`${process.name} goes on`);
    process.resume();
  });
};

/** Two places lose each other, one way or both. */
const cutPair: Fault = (cluster, random) => {
  const a = random.pick(cluster.places);
  const b = random.pick(cluster.places);
  if (a === b) return;
  cutBetween(cluster, random, [a], [b]);
};

/** One place loses the coordinators only. */
const cutFromCoordinators: Fault = (cluster, random) => {
  const node = random.pick(cluster.of('node'));
  cutBetween(cluster, random, [node], cluster.of('coordinator'));
};

const isolate: Fault = (cluster, random) => {
  const place = random.pick(cluster.places);
  const rest = cluster.places.filter((other) => other !== place);
  cutBetween(cluster, random, [place], rest);
};

/** The places fall into two halves. */
const split: Fault = (cluster, random) => {
  const left = cluster.places.filter(() => random.chance(0.5));
  const right = cluster.places.filter((place) => !left.includes(place));
  cutBetween(cluster, random, left, right);
};

function cutBetween(
  cluster: SimCluster,
  random: SeededRandom,
  left: readonly Place[],
  right: readonly Place[],
): void {
  const isOneWay = random.chance(0.2);
  cluster.trace(
    `cut ${left.map((p) => p.id).join()} ${isOneWay ? '>' : '|'} ${right.map((p) => p.id).join()}`,
  );
  const pairs = left.flatMap((a) => right.map((b) => [a.id, b.id] as const));
  for (const [a, b] of pairs) {
    cluster.network.cut(a, b);
    if (!isOneWay) cluster.network.cut(b, a);
  }
  cluster.schedule.after(random.between(100, 4_000), () => {
    cluster.trace('healed');
    for (const [a, b] of pairs) {
      cluster.network.heal(a, b);
      cluster.network.heal(b, a);
    }
  });
}

const badWeather: Fault = (cluster, random) => {
  cluster.network.breakChance = random.between(0, 0.02);
  cluster.network.slowMs = random.between(0, 60);
  cluster.schedule.after(random.between(200, 3_000), () => {
    cluster.network.breakChance = 0;
    cluster.network.slowMs = 0;
  });
};

/** An operator removes a member and adds it again. */
const removeAndAdd: Fault = (cluster, random) => {
  const coordinators = cluster.of('coordinator').filter((place) => place.coordinator !== undefined);
  if (coordinators.length === 0) return;
  const { coordinator } = random.pick(coordinators);
  const { id } = random.pick(cluster.of('node'));
  cluster.trace(`an operator removes ${id}`);
  const ignore = (): void => undefined;
  coordinator?.removeMember(id, 1_000).then(() => {
    cluster.schedule.after(random.between(0, 2_000), () => {
      coordinator.addMember(id, addressOf(id), 1_000).catch(ignore);
    });
  }, ignore);
};

const kinds: readonly Fault[] = [
  crash('node'),
  crash('node'),
  crash('coordinator'),
  crash('proxy'),
  powerCut,
  pause,
  pause,
  cutPair,
  cutPair,
  cutFromCoordinators,
  isolate,
  split,
  badWeather,
  removeAndAdd,
];

/** Faults of a mix that the seed draws (swarm testing: not every kind in every run). */
export function injectFaults(cluster: SimCluster, random: SeededRandom, untilMs: number): void {
  const mix = kinds.filter(() => random.chance(0.5));
  if (mix.length === 0) return;
  const everyMs = random.between(300, 3_000);
  const next = (): void => {
    cluster.schedule.after(random.between(0, 2 * everyMs), () => {
      if (cluster.schedule.now >= untilMs) return;
      random.pick(mix)(cluster, random);
      next();
    });
  };
  next();
}
