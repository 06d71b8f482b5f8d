// The bytes of the WebSocket: text is JSON, binary is 4 bytes little-endian length, a JSON header, and the payload.

/** A binary message; `payload` is a Uint8Array. */
export function packMessage(header, payload) {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(4 + text.length + payload.length);
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(text, 4);
  bytes.set(payload, 4 + text.length);
  return bytes;
}

/** A result's {header, values: Uint8Array, lengths: Uint32Array}. */
export function unpackResult(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const start = 4 + length;
  const values = new Uint8Array(buffer, start, header.runs).slice();
  const lengthsAt = start + 4 * Math.ceil(header.runs / 4); // zero bytes fill up to a multiple of 4
  // a copy, because numbers of 32 bits must begin at a multiple of 4 of their buffer
  const lengths = new Uint32Array(buffer.slice(lengthsAt, lengthsAt + 4 * header.runs));
  return { header, values, lengths };
}
