// The list of objects: those the server follows and those only drawn so far, with their names. Rows are kept from frame
// to frame and only their words change, so that the keyboard's focus stays where it is.

import { cssColour } from "./colours.js";

const STATES = { drawn: "drawn", visible: "visible", lost: "lost" };

function part(name, properties, ...children) {
  const node = document.createElement(name);
  const { dataset = {}, ...others } = properties;
  Object.assign(node, others);
  Object.assign(node.dataset, dataset);
  node.append(...children);
  return node;
}

function button(text, label, act) {
  const node = part("button", { type: "button", textContent: text, ariaLabel: label });
  node.addEventListener("click", act);
  return node;
}

// Written only where it differs: a screen reader may read again what is set again.
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export class ObjectList {
  hidden = new Set();
  activeId = 1; // what is drawn belongs to it
  #list;
  #acts;
  #names = new Map();
  #rows = new Map();

  /** `acts`: correct(id), remove(id), changed() after a name, the selection or hiding. */
  constructor(list, acts) {
    this.#list = list;
    this.#acts = acts;
  }

  nameOf(id) {
    return this.#names.get(id) ?? `Object ${id}`;
  }

  /** [id, name] of these ids. */
  names(ids) {
    return [...ids].sort((a, b) => a - b).map((id) => [id, this.nameOf(id)]);
  }

  forget() {
    this.#names.clear();
    this.hidden.clear();
    this.activeId = 1;
  }

  select(id) {
    this.activeId = id;
    this.#acts.changed();
  }

  /** `objects` as the server answers them, `drafted` ids with something drawn. */
  update(objects, drafted) {
    const seen = new Map(objects.map((object) => [object.id, object]));
    const ids = [...new Set([...seen.keys(), ...drafted])].sort((a, b) => a - b);
    for (const [id, row] of this.#rows) if (!ids.includes(id)) this.#dropRow(id, row);
    for (const [place, id] of ids.entries()) {
      const row = this.#rows.get(id) ?? this.#addRow(id);
      const there = this.#list.children[place] ?? null;
      if (there !== row.node) this.#list.insertBefore(row.node, there);
      this.#fill(row, id, seen.get(id), drafted.includes(id));
    }
  }

  #dropRow(id, row) {
    const hadFocus = row.node.contains(document.activeElement);
    row.node.remove();
    this.#rows.delete(id);
    this.hidden.delete(id);
    if (hadFocus) document.getElementById("add").focus();
  }

  #addRow(id) {
    const label = `Name of object ${id}`;
    const name = part("input", { type: "text", value: this.nameOf(id), maxLength: 40, ariaLabel: label });
    name.addEventListener("input", () => this.#rename(id, name.value));
    name.addEventListener("focus", () => this.activeId !== id && this.select(id));
    const swatch = part("span", { className: "swatch" });
    swatch.style.background = cssColour(id);
    const state = part("span", { className: "state" });
    const stats = part("p", { className: "stats" });
    const hide = button("Hide", `Hide object ${id}`, () => this.#toggle(id));
    const acts = part("div", { className: "acts" },
      button("Correct", `Correct object ${id}`, () => this.#acts.correct(id)), hide,
      button("Remove", `Remove object ${id}`, () => this.#acts.remove(id)));
    const head = part("div", { className: "name" }, swatch, name, state);
    const row = { node: part("li", { dataset: { id } }, head, stats, acts), state, stats, hide };
    this.#rows.set(id, row);
    return row;
  }

  #rename(id, name) {
    this.#names.set(id, name.trim() || `Object ${id}`);
    this.#acts.changed();
  }

  #toggle(id) {
    if (!this.hidden.delete(id)) this.hidden.add(id);
    this.#acts.changed();
  }

  #fill(row, id, object, isDrafted) {
    const state = isDrafted ? "drawn" : object.lost ? "lost" : "visible";
    write(row.state, STATES[state]);
    row.state.dataset.state = state;
    const facts = object ? `score ${object.score.toFixed(2)}, ${object.area.toLocaleString("en")} px` : "not sent yet";
    write(row.stats, facts);
    const isHidden = this.hidden.has(id);
    write(row.hide, isHidden ? "Show" : "Hide");
    row.hide.ariaLabel = `${isHidden ? "Show" : "Hide"} object ${id}`;
    row.node.classList.toggle("active", id === this.activeId);
    if (id === this.activeId) row.node.setAttribute("aria-current", "true");
    else row.node.removeAttribute("aria-current");
  }
}
