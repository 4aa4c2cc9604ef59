import { equalBytes } from '../../src/base/bytes.js';
import { servingOf } from '../../src/chain/views.js';
import { type Member, MemberState } from '../../src/gen/keychaindb/v1/coordinator.js';
import { addressOf, type Place, type SimCluster } from './cluster.js';
import type { SeededRandom } from './schedule.js';

/**
 * The processes that are healed when the faults end; everything else stays dead. It is able to serve: a majority
 * of coordinators, a proxy, and a node whose store is one of those that serve.
 */
export class Core {
  readonly #cluster: SimCluster;
  readonly #places: Set<Place>;
  /** Another node may be needed: who serves has changed since the core was drawn. */
  readonly #mayGrow: boolean;

  private constructor(cluster: SimCluster, places: readonly Place[], mayGrow: boolean) {
    this.#cluster = cluster;
    this.#places = new Set(places);
    this.#mayGrow = mayGrow;
  }

  static all(cluster: SimCluster): Core {
    return new Core(cluster, cluster.places, true);
  }

  static some(cluster: SimCluster, random: SeededRandom): Core {
    return new Core(cluster, partOf(cluster, cluster.of('node'), random), true);
  }

  /** Of those that serve now, each with all that is committed: any of them is enough (R10). */
  static someServing(cluster: SimCluster, random: SeededRandom): Core {
    const serving = servingOf(cluster.ghost.decided ?? { members: [] });
    const nodes = cluster.of('node').filter(({ id }) => serving.some((m) => m.id === id));
    return new Core(cluster, partOf(cluster, nodes, random), false);
  }

  get nodes(): readonly string[] {
    return this.#cluster
      .of('node')
      .filter((place) => this.#places.has(place))
      .map(({ id }) => id);
  }

  has(place: Place): boolean {
    return this.#places.has(place);
  }

  describe(): string {
    return [...this.#places].map(({ id }) => id).join();
  }

  /** Ends what doesn't belong to the core, and starts and resumes what does. */
  heal(): void {
    const cluster = this.#cluster;
    cluster.endUsurped();
    this.#grow();
    cluster.network.healAll();
    for (const place of cluster.places) {
      if (place.lost === true) continue;
      if (!this.#places.has(place)) {
        cluster.crash(place, false);
        continue;
      }
      if (cluster.isDown(place)) cluster.start(place);
      if (place.process?.isPaused === true) place.process.resume();
    }
    this.#addMissing();
  }

  /** Serves with exactly the nodes of the core, each active in the newest view. */
  get isWhole(): boolean {
    const view = this.#cluster.ghost.decided;
    const { nodes } = this;
    if (view === undefined || view.members.length !== nodes.length) return false;
    if (view.members.some((m) => m.state !== MemberState.SERVING)) return false;
    return this.#cluster
      .of('node')
      .filter((place) => this.#places.has(place))
      .every(({ node }) => node?.state.active?.epoch === view.epoch);
  }

  /** Where none of those that serve in the newest view belongs to the core, one of them has to. */
  #grow(): void {
    if (!this.#mayGrow) return;
    const view = this.#cluster.ghost.decided;
    if (view === undefined) return;
    const serving = servingOf(view);
    if (serving.length === 0 || serving.some((m) => this.#holds(m))) return;
    const place = this.#cluster
      .of('node')
      .find(({ id, hurt }) =>
        serving.some((m) => m.id === id && (hurt === undefined || hurt !== m.incarnation)),
      );
    if (place !== undefined) {
      this.#places.add(place);
      this.#cluster.trace('core', `needs ${place.id}: the others of its view are dead`);
    }
  }

  /** Has the core this member, with all that it had synced? */
  #holds({ id, incarnation, storeId }: Member): boolean {
    const place = this.#cluster.of('node').find((p) => p.id === id);
    if (place === undefined || !this.#places.has(place) || place.hurt === incarnation) return false;
    const { node } = place;
    return node === undefined || equalBytes(node.state.self.storeId, storeId);
  }

  /** What an operator removed or drained and didn't add again; spares have their place. */
  #addMissing(): void {
    const leader = this.#cluster
      .of('coordinator')
      .find(({ raft }) => raft?.status.isCurrent === true);
    const view = leader?.coordinator?.view;
    if (view === undefined || leader?.coordinator === undefined) return;
    const all = [...view.members, ...view.others];
    if (view.length !== lengthMost && all.some((m) => m.spare)) {
      const length = { length: lengthMost, expectedEpoch: 0 };
      leader.coordinator.setChainLength(length, 1_000).catch(() => undefined);
    }
    for (const id of this.nodes) {
      const known = all.find((m) => m.id === id);
      if (known !== undefined && !known.drained) continue;
      const added = { id, address: addressOf(id), spare: known?.spare ?? false, expectedEpoch: 0 };
      leader.coordinator.addMember(added, 1_000).catch(() => undefined);
    }
  }
}

/** Members of a chain that every spare has a place in. */
const lengthMost = 64;

/** A majority of coordinators, proxies, and of these nodes at least one. */
function partOf(
  cluster: SimCluster,
  nodes: readonly Place[],
  random: SeededRandom,
): readonly Place[] {
  const coordinators = cluster.of('coordinator');
  const majority = Math.floor(coordinators.length / 2) + 1;
  const whole = coordinators.filter((place) => place.lost !== true);
  const some = (places: readonly Place[], least: number): readonly Place[] =>
    shuffled(places, random).slice(0, least + random.int(places.length - least + 1));
  return [...some(whole, majority), ...some(nodes, 1), ...some(cluster.of('proxy'), 1)];
}

function shuffled<T>(items: readonly T[], random: SeededRandom): readonly T[] {
  const left = [...items];
  const out: T[] = [];
  while (left.length > 0) out.push(...left.splice(random.int(left.length), 1));
  return out;
}
