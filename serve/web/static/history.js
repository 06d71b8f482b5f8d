// What was answered, kept as runs (a few KB a frame) so that a long stream can still be downloaded. Past MOST_BYTES the
// oldest frames go, and `forgotten` says how many.

import { expandRuns } from "./runs.js";

const MOST_BYTES = 256 * 2 ** 20;
const OWN_BYTES = 400; // of an entry without its runs, roughly

export class History {
  #entries = new Map(); // frame index -> entry, in the order of first answers
  #bytes = 0;
  #mostBytes;
  forgotten = 0;

  constructor(mostBytes = MOST_BYTES) {
    this.#mostBytes = mostBytes;
  }

  /** Keeps or replaces the answer of a frame: {index, pts, width, height, values, lengths, objects}. */
  put(entry) {
    const before = this.#entries.get(entry.index);
    if (before) this.#bytes -= sizeOf(before);
    this.#entries.set(entry.index, entry);
    this.#bytes += sizeOf(entry);
    while (this.#bytes > this.#mostBytes && this.#entries.size > 1) this.#forgetOldest();
  }

  get size() {
    return this.#entries.size;
  }

  get(index) {
    return this.#entries.get(index);
  }

  /** Entries in the order of the frames. */
  entries() {
    return [...this.#entries.values()].sort((a, b) => a.index - b.index);
  }

  clear() {
    this.#entries.clear();
    this.#bytes = this.forgotten = 0;
  }

  #forgetOldest() {
    const [index, entry] = this.#entries.entries().next().value;
    this.#entries.delete(index);
    this.#bytes -= sizeOf(entry);
    this.forgotten += 1;
  }
}

function sizeOf(entry) {
  return OWN_BYTES + 5 * entry.values.length;
}

/** Uint8Array [height * width] of an entry. */
export function mapOf(entry) {
  return expandRuns(entry.values, entry.lengths, new Uint8Array(entry.width * entry.height));
}
