/** Milliseconds between two notices. */
const noticeMs = 60_000;

/** Tells a person of what comes again and again, now and then. */
export class RareNotice {
  readonly #notice: (text: string) => void;
  #saidAt = Number.NEGATIVE_INFINITY;

  constructor(notice: (text: string) => void = () => undefined) {
    this.#notice = notice;
  }

  /** @param now monotonic milliseconds */
  say(text: string, now: number): void {
    if (now - this.#saidAt < noticeMs) return;
    this.#saidAt = now;
    this.#notice(text);
  }
}
