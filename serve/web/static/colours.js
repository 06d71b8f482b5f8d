// A steady colour an object, the same in the page, in the downloads and in what the programs write: hues step round the
// colour wheel by the golden angle, so that neighbouring ids never look alike.

const GOLDEN_ANGLE = 0.381966;
const SATURATION = 0.8;

function channel(offset, hue) {
  const k = (offset + hue * 6) % 6;
  return Math.round(255 * (1 - SATURATION * Math.max(0, Math.min(k, 4 - k, 1))));
}

/** [red, green, blue] of an id, 0..255; background is black. */
export function colourOf(id) {
  if (id === 0) return [0, 0, 0];
  const hue = (0.55 + id * GOLDEN_ANGLE) % 1;
  return [channel(5, hue), channel(3, hue), channel(1, hue)];
}

/** The same as CSS. */
export function cssColour(id) {
  return `rgb(${colourOf(id).join(" ")})`;
}
