/**
 * When a call that says nothing is given up. Without a clock: every method is told the time, in seconds.
 *
 * It is the server that must have been silent, not the reader that was away. A loop's body that takes its time, or
 * blocks the event loop; a process that is stopped: what has come meanwhile has yet to be read when they go on. So
 * whoever begins to listen late listens for a moment at least, and a silence that is noticed late gets a moment more,
 * once.
 */

/** Seconds in which what is there already will be read. */
const MOMENT = 1;
/** Seconds. Later than this after its time nobody notices a silence who has listened all the while. */
const LATE = 0.1;

export class Listening {
  #until = 0;
  #least = 0;
  #begun = false;
  #extended = false;

  /** Takes note that the next message is due within so many seconds. */
  expect(now: number, within: number): void {
    this.#until = now + within;
    this.#least = Math.min(within, MOMENT);
    this.#begun = this.#extended = false;
  }

  /** Returns the seconds to listen for. Who asks listens from now on. */
  left(now: number): number {
    if (!this.#begun) {
      this.#begun = true;
      this.#until = Math.max(this.#until, now + this.#least);
    }
    return Math.max(0, this.#until - now);
  }

  /** Tells whether nothing came in that time because nothing was said. */
  isOver(now: number): boolean {
    if (this.#extended || now - this.#until <= LATE) {
      return true;
    }
    this.#extended = true;
    this.#until = now + MOMENT;
    return false;
  }
}
