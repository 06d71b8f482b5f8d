// Drawing on the paused frame, with a pointer or with keys alone: arrows move a cross, Enter does what a press does.
// Its canvas lies over the picture, has the picture's pixels, and is all that is ever drawn on here.

import { colourOf, cssColour } from "./colours.js";
import { boxBetween, withStroke } from "./drafts.js";

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FAR = 10; // pixels a key moves the cross; with Shift it is one
const SMALLEST_BOX = 3; // pixels; less was a click, not a drag

// Whoever draws with a pointer keeps the page's keys: with the focus here, arrows would move the cross, not step.
function keepFocusAway(event) {
  event.preventDefault();
  document.activeElement?.blur();
}

export class Drawing {
  tool = "box"; // box | points | brush | eraser
  brushSize = 24;
  enabled = false;
  #canvas;
  #context;
  #drafts;
  #host;
  #cursor = null; // of the keyboard, null until it is used
  #from = null; // where the box or the stroke under way began
  #to = null;
  #stroke = null; // the mask being painted
  #erasing = false;

  /** `host`: activeId() of the object drawn for, regionOf(id) as Uint8Array or null, say(text). */
  constructor(canvas, drafts, host) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#drafts = drafts;
    this.#host = host;
    canvas.addEventListener("mousedown", keepFocusAway);
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", () => this.#release());
    canvas.addEventListener("pointercancel", () => this.cancel());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#forgetCursor());
  }

  /** Takes the size of a frame. */
  fit(width, height) {
    if (this.#canvas.width === width && this.#canvas.height === height) return;
    Object.assign(this.#canvas, { width, height });
    this.#cursor = null;
    this.cancel();
  }

  /** Drops the box or stroke under way. */
  cancel() {
    this.#from = this.#to = this.#stroke = null;
    this.paint();
  }

  paint() {
    const context = this.#context;
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    for (const [id, draft] of this.#drafts.entries()) this.#paintDraft(id, draft);
    const id = this.#host.activeId();
    if (this.#stroke) this.#paintMask(id, this.#stroke);
    else if (this.#from && this.#to) this.#paintBox(id, boxBetween(this.#from, this.#to));
    if (this.#cursor) this.#paintCursor();
  }

  #at(event) {
    const area = this.#canvas.getBoundingClientRect();
    const x = ((event.clientX - area.left) / area.width) * this.#canvas.width;
    const y = ((event.clientY - area.top) / area.height) * this.#canvas.height;
    return this.#inside([x, y]);
  }

  #inside([x, y]) {
    const bound = (value, size) => Math.max(0, Math.min(size - 1, Math.floor(value)));
    return [bound(x, this.#canvas.width), bound(y, this.#canvas.height)];
  }

  #press(event) {
    if (!this.enabled) return;
    this.#canvas.setPointerCapture?.(event.pointerId);
    this.#forgetCursor();
    const beside = event.button === 2 || event.altKey;
    this.#begin(this.#at(event), beside);
  }

  #begin(point, beside) {
    if (this.tool === "points") this.#drafts.addPoint(this.#host.activeId(), point, !beside);
    else {
      this.#from = this.#to = point;
      if (this.tool !== "box") this.#startStroke(beside);
    }
    this.paint();
  }

  #startStroke(beside) {
    const id = this.#host.activeId();
    const draft = this.#drafts.get(id);
    const before = draft?.kind === "mask" ? draft.mask : this.#host.regionOf(id);
    this.#stroke = before ?? new Uint8Array(this.#canvas.width * this.#canvas.height);
    this.#erasing = beside || this.tool === "eraser";
    this.#extendStroke(this.#from);
  }

  #extendStroke(point) {
    const value = this.#erasing ? 0 : 1;
    this.#stroke = withStroke(this.#stroke, this.#canvas.width, this.#to, point, this.brushSize / 2, value);
    this.#to = point;
  }

  #move(event) {
    if (!this.#from) return;
    this.#drag(this.#at(event));
  }

  #drag(point) {
    if (this.#stroke) this.#extendStroke(point);
    else this.#to = point;
    this.paint();
  }

  #release() {
    if (!this.#from) return;
    const id = this.#host.activeId();
    const box = boxBetween(this.#from, this.#to);
    const stroke = this.#stroke;
    this.#from = this.#to = this.#stroke = null;
    if (stroke) this.#drafts.setMask(id, stroke);
    else if (box[2] >= SMALLEST_BOX && box[3] >= SMALLEST_BOX) this.#drafts.setBox(id, box);
    else this.#host.say("To draw a box, drag from one corner to the other.");
    this.paint();
  }

  #key(event) {
    if (!this.enabled || event.ctrlKey || event.metaKey) return;
    const taken = MOVES[event.key] ? this.#moveCursor(event) : this.#act(event);
    if (!taken) return;
    event.preventDefault();
    event.stopPropagation(); // or the arrows would also step, and Escape close something
  }

  #moveCursor(event) {
    const [dx, dy] = MOVES[event.key];
    const far = event.shiftKey ? 1 : FAR;
    const [x, y] = this.#cursor ?? this.#middle();
    this.#cursor = this.#inside([x + dx * far, y + dy * far]);
    if (this.#from) this.#drag(this.#cursor);
    this.paint();
    this.#host.say(`${this.#cursor[0]}, ${this.#cursor[1]}`);
    return true;
  }

  #act(event) {
    if (event.key === "Escape" && (this.#from || this.#cursor)) {
      this.cancel();
      this.#host.say("Cancelled.");
      return true;
    }
    if (event.key !== "Enter") return false;
    this.#cursor ??= this.#middle();
    if (this.#from) this.#release();
    else this.#begin(this.#cursor, event.shiftKey || event.altKey);
    this.#sayPressed();
    this.paint();
    return true;
  }

  #sayPressed() {
    if (this.tool === "points") return;
    const begun = this.tool === "box" ? "Corner set. Move to the other corner and press Enter." : "Painting.";
    this.#host.say(this.#from ? begun : "Done.");
  }

  #middle() {
    return this.#inside([this.#canvas.width / 2, this.#canvas.height / 2]);
  }

  #forgetCursor() {
    if (!this.#cursor) return;
    this.#cursor = null;
    this.paint();
  }

  get #unit() {
    return Math.max(1, Math.min(this.#canvas.width, this.#canvas.height) / 240);
  }

  #paintDraft(id, draft) {
    if (draft.kind === "box") this.#paintBox(id, draft.box);
    else if (draft.kind === "mask") this.#paintMask(id, draft.mask);
    else {
      draft.on.forEach((point) => this.#paintPoint(id, point, true));
      draft.off.forEach((point) => this.#paintPoint(id, point, false));
    }
  }

  // A dark line under a bright dashed one shows on any picture.
  #paintBox(id, [x, y, width, height]) {
    const context = this.#context;
    context.lineWidth = 3 * this.#unit;
    context.strokeStyle = "rgb(0 0 0 / 60%)";
    context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
    context.lineWidth = 1.5 * this.#unit;
    context.setLineDash([6 * this.#unit, 4 * this.#unit]);
    context.strokeStyle = cssColour(id);
    context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
    context.setLineDash([]);
  }

  #paintPoint(id, [x, y], isOn) {
    const context = this.#context;
    const radius = 4.5 * this.#unit;
    context.beginPath();
    context.arc(x + 0.5, y + 0.5, radius, 0, 2 * Math.PI);
    context.fillStyle = isOn ? cssColour(id) : "#fff";
    context.fill();
    context.lineWidth = this.#unit;
    context.strokeStyle = "#000";
    context.stroke();
    context.fillStyle = "#000";
    context.fillRect(x + 0.5 - radius * 0.6, y + 0.5 - this.#unit / 2, radius * 1.2, this.#unit);
    if (isOn) context.fillRect(x + 0.5 - this.#unit / 2, y + 0.5 - radius * 0.6, this.#unit, radius * 1.2);
  }

  #paintMask(id, mask) {
    const image = new ImageData(this.#canvas.width, this.#canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    const [red, green, blue] = colourOf(id);
    const colour = ((170 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    for (let i = 0; i < mask.length; i += 1) if (mask[i]) pixels[i] = colour;
    const layer = new OffscreenCanvas(image.width, image.height);
    layer.getContext("2d").putImageData(image, 0, 0);
    this.#context.drawImage(layer, 0, 0);
  }

  #paintCursor() {
    const [x, y] = this.#cursor;
    const arm = 12 * this.#unit;
    const context = this.#context;
    for (const [colour, width] of [["#000", 3], ["#fff", 1]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * this.#unit;
      context.beginPath();
      context.moveTo(x + 0.5 - arm, y + 0.5);
      context.lineTo(x + 0.5 + arm, y + 0.5);
      context.moveTo(x + 0.5, y + 0.5 - arm);
      context.lineTo(x + 0.5, y + 0.5 + arm);
      context.stroke();
    }
  }
}
