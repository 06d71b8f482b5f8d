// Run-length codes of label maps, and back. A map is a Uint8Array, row-major, the value of a pixel is the object's id.

/** Fills `map` (Uint8Array of width * height) from row-major runs. Throws RangeError unless they fill it exactly. */
export function expandRuns(values, lengths, map) {
  map.fill(0);
  let at = 0;
  for (let run = 0; run < values.length; run += 1) {
    const end = at + lengths[run];
    if (values[run] !== 0) map.fill(values[run], at, end);
    at = end;
  }
  if (at !== map.length) throw new RangeError(`runs cover ${at} pixels, the map has ${map.length}`);
  return map;
}

/** Row-major runs {values, lengths} of a map, as plain arrays; runs are as long as they can be. */
export function runsOf(map) {
  const values = [];
  const lengths = [];
  let start = 0;
  for (let i = 1; i <= map.length; i += 1) {
    if (i < map.length && map[i] === map[start]) continue;
    values.push(map[start]);
    lengths.push(i - start);
    start = i;
  }
  return { values, lengths };
}

/** The region of one object in runs of 0 and 1, or null where no pixel shows it. */
export function regionRuns(values, lengths, id) {
  const region = { values: [], lengths: [] };
  let seen = false;
  for (let run = 0; run < values.length; run += 1) {
    const value = values[run] === id ? 1 : 0;
    seen ||= value === 1;
    const last = region.values.length - 1;
    if (last >= 0 && region.values[last] === value) region.lengths[last] += lengths[run];
    else {
      region.values.push(value);
      region.lengths.push(lengths[run]);
    }
  }
  return seen ? region : null;
}

// COCO counts are column-major and begin with background: background, object, background, ...
function addColumnRun(found, value, start, end) {
  if (value === 0) return;
  let object = found.get(value);
  if (!object) found.set(value, (object = { counts: [], end: 0, area: 0 }));
  object.counts.push(start - object.end, end - start);
  object.end = end;
  object.area += end - start;
}

/** Map of id -> {counts, area} for every object of a label map: COCO's uncompressed run lengths. */
export function cocoRegions(map, width, height) {
  const found = new Map();
  let value = map[0];
  let start = 0;
  let position = 0;
  for (let x = 0; x < width; x += 1) {
    for (let at = x; at < map.length; at += width, position += 1) {
      if (map[at] === value) continue;
      addColumnRun(found, value, start, position);
      value = map[at];
      start = position;
    }
  }
  addColumnRun(found, value, start, position);
  for (const object of found.values()) {
    if (object.end < map.length) object.counts.push(map.length - object.end);
    delete object.end;
  }
  return found;
}

/** [x, y, width, height] around the pixels of one object, or null. */
export function boxOf(map, width, id) {
  let [left, top, right, bottom] = [Infinity, -1, -1, -1];
  for (let i = map.indexOf(id); i >= 0; i = map.indexOf(id, i + 1)) {
    const x = i % width;
    const y = (i - x) / width;
    if (top < 0) top = y;
    bottom = y;
    left = Math.min(left, x);
    right = Math.max(right, x);
  }
  return top < 0 ? null : [left, top, right - left + 1, bottom - top + 1];
}
