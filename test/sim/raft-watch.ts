import type { RaftState } from '../../src/raft/state.js';
import { RaftSpec } from '../raft/spec.js';
import type { SimProcess } from './process.js';

/** The coordinators, as the specification of Raft sees them after every step. */
export class RaftWatch {
  readonly #spec = new RaftSpec();
  readonly #members = new Map<
    string,
    { readonly process: SimProcess; readonly state: RaftState }
  >();

  watch(id: string, process: SimProcess, state: RaftState): void {
    this.#members.set(id, { process, state });
  }

  check(): void {
    for (const [id, { process }] of this.#members) if (process.isDead) this.#members.delete(id);
    this.#spec.check([...this.#members].map(([id, { state }]) => ({ id, state, disk: undefined })));
  }
}
