/** What a run should meet, or it proves little; docs/simulation.md names each. */
export const mustMeet = [
  'dirty read',
  'tail query refused',
  'promise waited out',
  'head removed',
  'middle removed',
  'tail removed',
  'two removed at once',
  'removed because it refused',
  'suffix cut',
  'promotion',
  'deduplicated retry',
  'leader change with a view in flight',
  'damaged record',
  'lost folder',
  'reinstated alone',
  'last of a chain served alone',
  'disk error',
  'session expired',
  'traced write',
  'coordinator snapshot taken',
  'coordinator snapshot sent',
  'drained',
  'reordered',
  'reordered while one joins',
  'spare taken in',
  'recover refused',
  'log made shorter',
  'synced by a snapshot',
  'snapshot broken off',
  'states compared',
  'states compared amid writes',
  'difference found',
  'altered object mended',
  'damaged record read, synced anew',
  'written alone while streams broke',
] as const;

export type Met = (typeof mustMeet)[number];

/** How often a run met what it should. */
export class Coverage {
  readonly met = new Map<string, number>();

  count(what: Met | `fault: ${string}` | `beyond the bound: ${string}`, times = 1): void {
    this.met.set(what, (this.met.get(what) ?? 0) + times);
  }

  add(other: ReadonlyMap<string, number>): void {
    for (const [what, times] of other) this.met.set(what, (this.met.get(what) ?? 0) + times);
  }

  get missing(): readonly Met[] {
    return mustMeet.filter((what) => !this.met.has(what));
  }
}
