/** What a decision gives: facts to store, and things to do once they are stored. */
export interface Decision<Event, Effect> {
  readonly events: readonly Event[];
  readonly effects: readonly Effect[];
}

/**
 * A pure core: no clock, no chance, no I/O. `evolve` may update state that it alone owns; it may not
 * read anything but its arguments. Replay runs `evolve` alone.
 */
export interface Core<State, Input, Event, Effect> {
  decide(state: State, input: Input): Decision<Event, Effect>;
  evolve(state: State, event: Event): State;
}
