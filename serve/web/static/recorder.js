// The overlay as a video: the canvas is recorded by the browser, in real time. A clip or a file is played once more
// with the kept masks, so that its video has the file's own pace, not the pace at which it was followed.

import { mapOf } from "./history.js";

const KINDS = ["video/mp4;codecs=avc1.42E01E", "video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm"];
const BITS_PER_PIXEL_SECOND = 6;

/** Container that this browser can write, or null. */
export function videoKind() {
  if (!globalThis.MediaRecorder) return null;
  return KINDS.find((kind) => MediaRecorder.isTypeSupported(kind)) ?? null;
}

/** Ending of the file's name. */
export function videoEnding(kind) {
  return kind.startsWith("video/mp4") ? "mp4" : "webm";
}

export class Recording {
  #recorder;
  #parts = [];
  #track;

  /** Records whatever is painted on `canvas` from now on. */
  constructor(canvas, kind) {
    const stream = canvas.captureStream();
    [this.#track] = stream.getTracks();
    const videoBitsPerSecond = Math.max(1e6, canvas.width * canvas.height * BITS_PER_PIXEL_SECOND);
    this.#recorder = new MediaRecorder(stream, { mimeType: kind, videoBitsPerSecond });
    this.#recorder.ondataavailable = (event) => this.#parts.push(event.data);
    this.#recorder.start(1000);
  }

  /** Resolves to the video as a Blob. */
  async finish() {
    const stopped = new Promise((resolve) => (this.#recorder.onstop = resolve));
    this.#recorder.stop();
    await stopped;
    this.#track.stop();
    return new Blob(this.#parts, { type: this.#recorder.mimeType });
  }
}

function sleepUntil(time) {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, time - performance.now())));
}

/** Plays `source` from its beginning with the kept masks onto `overlay`; resolves to the video. `stopped()` ends it. */
export async function recordAgain(source, history, overlay, look, kind, stopped, advance = () => {}) {
  source.seek(0);
  const step = 1000 / source.framesPerSecond;
  const recording = new Recording(overlay.canvas, kind);
  let due = 0;
  for (let frame = await source.next(); frame && !stopped(); frame = await source.next()) {
    const entry = history.get(frame.index);
    if (!entry) continue;
    await sleepUntil(due);
    due = Math.max(due, performance.now() - step) + step;
    overlay.paint(frame.picture, mapOf(entry), entry.objects, look);
    advance(frame.index + 1, source.count);
  }
  await sleepUntil(due);
  return recording.finish();
}
