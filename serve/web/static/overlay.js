// Paints a frame with its objects: tint, contour, label. Pixels are written as 32-bit words of an ImageData, which
// takes a few milliseconds for a frame of 854x480.

import { colourOf, cssColour } from "./colours.js";

const OPAQUE = 255;

// ImageData is red, green, blue, alpha in memory, which as a little-endian word reads backwards.
function word(id, alpha) {
  const [red, green, blue] = colourOf(id);
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

function wordTable(ids, hidden, alpha) {
  const table = new Uint32Array(256);
  for (const id of ids) if (!hidden.has(id)) table[id] = word(id, alpha);
  return table;
}

const EVERY_ID = Array.from({ length: 255 }, (_, i) => i + 1);

/** Writes tint and contour of `map` into `pixels` (Uint32Array over RGBA). `look`: {opacity, contour, hidden}. */
export function tintPixels(map, width, pixels, look) {
  const tint = wordTable(EVERY_ID, look.hidden, Math.round(look.opacity * OPAQUE));
  const line = look.contour ? wordTable(EVERY_ID, look.hidden, OPAQUE) : tint;
  const reach = Math.max(1, Math.round(Math.min(width, map.length / width) / 300));
  const down = reach * width;
  for (let i = 0; i < map.length; i += 1) {
    const id = map[i];
    if (id === 0) pixels[i] = 0;
    // outside the map the neighbour is undefined, hence different: the frame's rim is a contour, too
    else if (map[i - reach] !== id || map[i + reach] !== id || map[i - down] !== id || map[i + down] !== id) {
      pixels[i] = line[id];
    } else pixels[i] = tint[id];
  }
}

// Black or white, whichever is read more easily on the object's colour.
function inkOn(id) {
  const [red, green, blue] = colourOf(id);
  return 0.3 * red + 0.59 * green + 0.11 * blue > 110 ? "#000" : "#fff";
}

function drawLabel(context, text, [x, y], id) {
  const size = Math.max(12, Math.round(Math.min(context.canvas.width, context.canvas.height) / 32));
  context.font = `600 ${size}px system-ui, sans-serif`;
  const width = context.measureText(text).width + size * 0.6;
  const left = Math.min(x, Math.max(0, context.canvas.width - width));
  const bottom = Math.max(y, size * 1.3);
  context.fillStyle = cssColour(id);
  context.fillRect(left, bottom - size * 1.3, width, size * 1.3);
  context.fillStyle = inkOn(id);
  context.fillText(text, left + size * 0.3, bottom - size * 0.32);
}

/** The canvas people look at, which is also what the overlay video records. */
export class Overlay {
  #context;
  #tint = document.createElement("canvas");
  #image = null;

  constructor(canvas) {
    this.canvas = canvas;
    this.#context = canvas.getContext("2d");
  }

  /** `look`: {opacity 0..1, contour, labels, hidden: Set of ids, nameOf(id)}; `map` and `objects` may be null. */
  paint(picture, map, objects, look) {
    this.#fit(picture.width, picture.height);
    this.#context.drawImage(picture, 0, 0);
    if (!map) return;
    tintPixels(map, picture.width, new Uint32Array(this.#image.data.buffer), look);
    this.#tint.getContext("2d").putImageData(this.#image, 0, 0);
    this.#context.drawImage(this.#tint, 0, 0);
    if (look.labels) this.#label(objects ?? [], look);
  }

  #label(objects, look) {
    for (const { id, box } of objects) {
      if (box && !look.hidden.has(id)) drawLabel(this.#context, look.nameOf(id), box, id);
    }
  }

  // Setting a canvas's size, even to what it is, clears it.
  #fit(width, height) {
    for (const canvas of [this.canvas, this.#tint]) {
      if (canvas.width !== width) canvas.width = width;
      if (canvas.height !== height) canvas.height = height;
    }
    if (this.#image?.width !== width || this.#image.height !== height) this.#image = new ImageData(width, height);
  }
}
