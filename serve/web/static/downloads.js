// Files for people to take away: palette PNGs in a zip, and COCO run lengths as JSON.

import { mapOf } from "./history.js";
import { palettePng } from "./png.js";
import { cocoRegions } from "./runs.js";
import { ZipWriter } from "./zip.js";

const PAUSE_EVERY = 20; // frames between breaths in which the page can answer

/** Name of a frame's mask, the same in both files. */
export function maskName(index) {
  return `${String(index).padStart(5, "0")}.png`;
}

function breathe() {
  return new Promise((resolve) => setTimeout(resolve));
}

/** A zip Blob of palette PNGs and objects.json with their names. `advance(done, all)` is told of progress. */
export async function masksZip(entries, names, advance = () => {}) {
  const zip = new ZipWriter();
  for (const [done, entry] of entries.entries()) {
    zip.add(maskName(entry.index), await palettePng(mapOf(entry), entry.width, entry.height));
    if (done % PAUSE_EVERY === 0) await breathe();
    advance(done + 1, entries.length);
  }
  zip.add("objects.json", new TextEncoder().encode(JSON.stringify(Object.fromEntries(names), null, 2)));
  return zip.blob();
}

function annotationsOf(entry, imageId, nextId) {
  const scores = new Map(entry.objects.map(({ id, score }) => [id, score]));
  const boxes = new Map(entry.objects.map(({ id, box }) => [id, box]));
  return [...cocoRegions(mapOf(entry), entry.width, entry.height)].map(([id, { counts, area }]) => ({
    id: nextId(),
    image_id: imageId,
    category_id: id,
    track_id: id,
    segmentation: { size: [entry.height, entry.width], counts },
    area,
    bbox: boxes.get(id) ?? null,
    iscrowd: 1, // the mark of run lengths in COCO
    score: scores.get(id) ?? null,
  }));
}

/** COCO JSON as an object: an image a frame, an annotation for each object seen in it, uncompressed run lengths. */
export async function cocoJson(entries, names, source, advance = () => {}) {
  let last = 0;
  const nextId = () => (last += 1);
  const images = [];
  const annotations = [];
  for (const [done, entry] of entries.entries()) {
    const { index, width, height, pts } = entry;
    images.push({ id: index + 1, file_name: maskName(index), width, height, pts });
    annotations.push(...annotationsOf(entry, index + 1, nextId));
    if (done % PAUSE_EVERY === 0) await breathe();
    advance(done + 1, entries.length);
  }
  const categories = [...names].map(([id, name]) => ({ id, name }));
  return { info: { description: `masks of ${source}` }, images, annotations, categories };
}

/** Hands a Blob to the browser's downloads. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
