// Zip archives without compression: what goes in is PNG and has been compressed already.

import { crc32 } from "./png.js";

export const MOST_FILES = 65535; // the format without its 64-bit extension
const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const DATE = 0x21; // 1980-01-01: equal masks make equal archives

function fields(view, at, entry) {
  view.setUint16(at, 20, true); // version needed
  view.setUint16(at + 2, 0x0800, true); // names are UTF-8
  view.setUint16(at + 8, DATE, true);
  view.setUint32(at + 10, entry.crc, true);
  view.setUint32(at + 14, entry.size, true);
  view.setUint32(at + 18, entry.size, true);
  view.setUint16(at + 22, entry.name.length, true);
}

function localHeader(entry) {
  const bytes = new Uint8Array(30 + entry.name.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, LOCAL, true);
  fields(view, 4, entry);
  bytes.set(entry.name, 30);
  return bytes;
}

function centralHeader(entry) {
  const bytes = new Uint8Array(46 + entry.name.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, CENTRAL, true);
  view.setUint16(4, 20, true);
  fields(view, 6, entry);
  view.setUint32(42, entry.offset, true);
  bytes.set(entry.name, 46);
  return bytes;
}

function endRecord(count, size, offset) {
  const view = new DataView(new ArrayBuffer(22));
  view.setUint32(0, END, true);
  view.setUint16(8, count, true);
  view.setUint16(10, count, true);
  view.setUint32(12, size, true);
  view.setUint32(16, offset, true);
  return new Uint8Array(view.buffer);
}

/** Collects files, then is a Blob; parts become blobs at once, which the browser may keep on disk. */
export class ZipWriter {
  #parts = [];
  #entries = [];
  #offset = 0;

  /** `bytes` is a Uint8Array. Throws RangeError beyond what the plain format holds. */
  add(name, bytes) {
    const entry = { name: new TextEncoder().encode(name), crc: crc32(bytes), size: bytes.length, offset: this.#offset };
    const head = localHeader(entry);
    if (this.#entries.length >= MOST_FILES || this.#offset + head.length + bytes.length > 0xf0000000) {
      throw new RangeError("there are too many masks for one zip file; download the COCO file instead");
    }
    this.#entries.push(entry);
    this.#parts.push(new Blob([head, bytes]));
    this.#offset += head.length + bytes.length;
  }

  /** The finished archive. */
  blob() {
    const directory = this.#entries.map(centralHeader);
    const size = directory.reduce((sum, bytes) => sum + bytes.length, 0);
    const end = endRecord(this.#entries.length, size, this.#offset);
    return new Blob([...this.#parts, ...directory, end], { type: "application/zip" });
  }
}
