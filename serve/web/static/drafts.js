// What has been drawn and not been sent yet: at most one draft an object, a box, clicks or a painted region. A draft is
// never changed but replaced, so that undoing is putting an earlier collection back.

import { runsOf } from "./runs.js";

const MOST_UNDOS = 40;

export class Drafts {
  #drafts = new Map(); // id -> {kind: "box", box} | {kind: "points", on, off} | {kind: "mask", mask}
  #earlier = [];
  #changed;

  constructor(changed) {
    this.#changed = changed;
  }

  get size() {
    return this.#drafts.size;
  }

  get canUndo() {
    return this.#earlier.length > 0;
  }

  entries() {
    return [...this.#drafts];
  }

  get(id) {
    return this.#drafts.get(id);
  }

  setBox(id, box) {
    this.#put(id, { kind: "box", box });
  }

  /** Adds a click to the object's clicks; they replace a draft of another kind. */
  addPoint(id, point, isOn) {
    const before = this.#drafts.get(id);
    const { on, off } = before?.kind === "points" ? before : { on: [], off: [] };
    this.#put(id, { kind: "points", on: isOn ? [...on, point] : on, off: isOn ? off : [...off, point] });
  }

  setMask(id, mask) {
    this.#put(id, { kind: "mask", mask });
  }

  drop(id) {
    if (!this.#drafts.has(id)) return;
    this.#remember();
    this.#drafts.delete(id);
    this.#changed();
  }

  undo() {
    if (!this.canUndo) return;
    this.#drafts = this.#earlier.pop();
    this.#changed();
  }

  clear() {
    this.#drafts = new Map();
    this.#earlier = [];
    this.#changed();
  }

  /** As the server takes them. `width` and `height` are the frame's. Clicks only beside an object are left out. */
  prompts(width, height) {
    const asked = this.entries().map(([id, draft]) => promptOf(id, draft, width, height));
    return asked.filter((prompt) => prompt !== null);
  }

  #put(id, draft) {
    this.#remember();
    this.#drafts.set(id, draft);
    this.#changed();
  }

  #remember() {
    this.#earlier.push(new Map(this.#drafts));
    this.#earlier.splice(0, this.#earlier.length - MOST_UNDOS);
  }
}

function promptOf(id, draft, width, height) {
  if (draft.kind === "box") return { id, box: draft.box };
  if (draft.kind === "points") return draft.on.length > 0 ? { id, on: draft.on, off: draft.off } : null;
  return draft.mask.includes(1) ? { id, mask: { width, height, ...runsOf(draft.mask) } } : null;
}

/** A new mask with a thick line from one pixel to another set to `value` (1 paints, 0 erases). */
export function withStroke(mask, width, from, to, radius, value) {
  const painted = mask.slice();
  const height = mask.length / width;
  const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1])));
  for (let step = 0; step <= steps; step += 1) {
    const x = from[0] + ((to[0] - from[0]) * step) / steps;
    const y = from[1] + ((to[1] - from[1]) * step) / steps;
    stampDisc(painted, width, height, x, y, radius, value);
  }
  return painted;
}

function stampDisc(mask, width, height, x, y, radius, value) {
  const top = Math.max(0, Math.ceil(y - radius));
  const bottom = Math.min(height - 1, Math.floor(y + radius));
  for (let row = top; row <= bottom; row += 1) {
    const half = Math.sqrt(radius * radius - (row - y) ** 2);
    const left = Math.max(0, Math.ceil(x - half));
    const right = Math.min(width - 1, Math.floor(x + half));
    if (right >= left) mask.fill(value, row * width + left, row * width + right + 1);
  }
}

/** [x, y, width, height] of the pixels between two corners, both included. */
export function boxBetween([x0, y0], [x1, y1]) {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0) + 1, Math.abs(y1 - y0) + 1];
}
