import type { Fault } from './faults.js';

/** Milliseconds for which a snapshot is waited for. */
const waitMs = 3_000;

/** A snapshot is on its way into a store: who takes it ends, loses its folder as well, or who sends it ends. */
export const snapshotBreaks: Fault = (weather, random) => {
  const { cluster } = weather;
  const until = cluster.schedule.now + waitMs;
  const look = (): void => {
    const taker = cluster
      .of('node')
      .find((place) => !cluster.isDown(place) && place.node?.state.incomplete === true);
    if (taker === undefined) {
      if (cluster.schedule.now < until) weather.later(1, look);
      return;
    }
    const sender = cluster.of('node').find(({ id }) => id === taker.node?.state.up?.to.id);
    const ends = sender !== undefined && random.chance(0.3) ? sender : taker;
    if (cluster.isDown(ends)) return;
    weather.did('snapshot breaks', ends.id, 'is killed while a snapshot is sent');
    const losesFolder = ends === taker && random.chance(0.3);
    cluster.crash(ends, random.chance(0.5));
    // What it held was no copy of anything.
    if (losesFolder) ends.disk = undefined;
    weather.restartLater(random, ends);
  };
  look();
};
