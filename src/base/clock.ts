/** Cancels a timer; calling it twice is harmless. */
export type Cancel = () => void;

/** The one way to time, so that a simulator can own it. */
export interface Clock {
  /** Milliseconds on a clock that never goes back; its zero means nothing. */
  monotonic(): number;
  /** Milliseconds since 1970 by the wall clock; may jump. */
  wall(): number;
  /** Calls `then` once, about `milliseconds` from now. */
  after(milliseconds: number, then: () => void): Cancel;
  /** Calls `then` once, when all that has arrived by now was handled: no time passes for it. */
  soon(then: () => void): void;
}

export const systemClock: Clock = {
  monotonic: () => performance.now(),
  wall: () => Date.now(),
  after(milliseconds, then) {
    const timer = setTimeout(then, milliseconds);
    return () => clearTimeout(timer);
  },
  soon: (then) => {
    setImmediate(then);
  },
};

/**
 * Calls `then` when all connections were taken that the kernel has by now: a server that closes before resets them. The
 * second turn is the one that has looked for new ones after this call.
 */
export function afterArrivals(clock: Pick<Clock, 'soon'>, then: () => void): void {
  clock.soon(() => clock.soon(then));
}

/** Resolves after so many milliseconds. */
export function pause(clock: Clock, milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(milliseconds, resolve);
  });
}

/** Calls `then` every `milliseconds` until cancelled; a late call delays the next, they never pile up. */
export function every(clock: Clock, milliseconds: number, then: () => void): Cancel {
  let cancel = clock.after(milliseconds, fire);
  let cancelled = false;
  function fire(): void {
    if (cancelled) return;
    then();
    if (!cancelled) cancel = clock.after(milliseconds, fire);
  }
  return () => {
    cancelled = true;
    cancel();
  };
}
