// Palette PNGs: the value of a pixel is the object's id, its colour only what people see. The browser's own canvas
// writes RGBA, from which ids cannot be read back.

import { colourOf } from "./colours.js";

const SIGNATURE = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});

/** CRC-32 as PNG and zip have it, of a Uint8Array. */
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i += 1) crc = CRC_TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function chunk(type, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i += 1) bytes[4 + i] = type.charCodeAt(i);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

function header(width, height) {
  const bytes = new Uint8Array(13);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  bytes[8] = 8; // bits a pixel
  bytes[9] = 3; // by palette
  return bytes;
}

async function deflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Every row is led by the number of its filter; 0 leaves it as it is, best for few flat values.
function rows(map, width, height) {
  const bytes = new Uint8Array((width + 1) * height);
  for (let y = 0; y < height; y += 1) bytes.set(map.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  return bytes;
}

const PALETTE = Uint8Array.from({ length: 768 }, (_, i) => colourOf(Math.floor(i / 3))[i % 3]);

/** Uint8Array of an 8-bit palette PNG of a label map. */
export async function palettePng(map, width, height) {
  const parts = [
    SIGNATURE,
    chunk("IHDR", header(width, height)),
    chunk("PLTE", PALETTE),
    chunk("IDAT", await deflate(rows(map, width, height))),
    chunk("IEND", new Uint8Array(0)),
  ];
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
