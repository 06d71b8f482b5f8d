// Where frames come from. A source is asked for its next frame and never pushes, so that whoever follows sets the pace:
// {name, live, framesPerSecond, count (0: unknown), next(), seek(index), close()}; `next` resolves to a Frame or null.

const JPEG_QUALITY = 0.92;
const WIDE = 854 / 480; // a working height is for this shape; wider pictures are bound by their width
const USUAL_RATES = [23.976, 24, 25, 29.97, 30, 50, 59.94, 60];
const WAIT_MILLISECONDS = 10000;

/** Size of a picture at a working height: never enlarged, both sides bound. */
export function workingSize(width, height, workingHeight) {
  const [long, short] = [Math.max(width, height), Math.min(width, height)];
  const scale = Math.min(1, workingHeight / short, (workingHeight * WIDE + 1) / long);
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/** One picture: on a canvas to show, as JPEG to send. `pts` in seconds, `capturedAt` in seconds since 1970 or null. */
export class Frame {
  #jpeg;

  constructor(picture, index, pts, capturedAt = null, jpeg = null) {
    Object.assign(this, { picture, index, pts, capturedAt });
    this.#jpeg = jpeg;
  }

  /** Uint8Array; made when it is first asked for. */
  async jpeg() {
    this.#jpeg ??= await encodeJpeg(this.picture);
    return this.#jpeg;
  }
}

async function encodeJpeg(canvas) {
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY });
  return new Uint8Array(await blob.arrayBuffer());
}

function drawn(image, { width, height }) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(image, 0, 0, width, height);
  return canvas;
}

function once(target, name, problem) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(problem)), WAIT_MILLISECONDS);
    const settle = (action) => () => {
      clearTimeout(late);
      action();
    };
    target.addEventListener(name, settle(resolve), { once: true });
    target.addEventListener("error", settle(() => reject(new Error(problem))), { once: true });
  });
}

async function fetched(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`The server has no ${address} (${response.status}).`);
  return response;
}

/** The clip that every server can show. Its pictures are sent as they came where they are small enough. */
export class ClipSource {
  name = "Bundled clip";
  live = false;
  #index = 0;

  static async open(workingHeight) {
    const facts = await (await fetched("v1/clip")).json();
    return new ClipSource(facts, workingSize(facts.width, facts.height, workingHeight));
  }

  constructor(facts, size) {
    this.count = facts.frames;
    this.framesPerSecond = facts.fps;
    this.size = size;
    this.#whole = size.width === facts.width;
  }

  #whole;

  async next() {
    if (this.#index >= this.count) return null;
    const index = this.#index++;
    const blob = await (await fetched(`v1/clip/${index}.jpg`)).blob();
    const image = await createImageBitmap(blob);
    const jpeg = this.#whole ? new Uint8Array(await blob.arrayBuffer()) : null;
    const picture = drawn(image, this.size);
    image.close();
    return new Frame(picture, index, index / this.framesPerSecond, null, jpeg);
  }

  seek(index) {
    this.#index = index;
  }

  close() {}
}

function usualRate(rate) {
  const nearest = USUAL_RATES.reduce((best, usual) => (Math.abs(usual - rate) < Math.abs(best - rate) ? usual : best));
  return Math.abs(nearest - rate) / nearest < 0.02 ? nearest : rate;
}

// Browsers do not tell a file's rate: play a moment of it and look at the times of its frames.
async function measuredRate(video) {
  const times = [];
  const enough = new Promise((resolve) => {
    const note = (_, metadata) => {
      times.push(metadata.mediaTime);
      if (times.length >= 16) resolve();
      else video.requestVideoFrameCallback(note);
    };
    video.requestVideoFrameCallback(note);
    setTimeout(resolve, 1500);
  });
  await video.play();
  await enough;
  video.pause();
  return rateOfTimes(times);
}

/** Frames per second of presentation times in seconds, some of which may be missing; 25 where nothing can be told. */
export function rateOfTimes(times) {
  const gaps = times.slice(1).map((time, i) => time - times[i]).filter((gap) => gap > 1 / 250);
  const shortest = Math.min(...gaps);
  const single = gaps.filter((gap) => gap < 1.5 * shortest);
  if (single.length === 0) return 25;
  return usualRate(single.length / single.reduce((sum, gap) => sum + gap, 0));
}

// A recording made by a browser may not know its length until its end was looked for.
async function knownDuration(video) {
  if (Number.isFinite(video.duration)) return video.duration;
  const known = once(video, "durationchange", "The length of this video cannot be told.");
  video.currentTime = 1e7;
  await known;
  return video.duration;
}

/** A video file, decoded by the browser and visited frame by frame. */
export class FileSource {
  live = false;
  #video;
  #index = 0;

  static async open(file, workingHeight) {
    const problem = `This browser cannot play ${file.name}. Try MP4 (H.264) or WebM.`;
    const video = document.createElement("video");
    Object.assign(video, { muted: true, playsInline: true, preload: "auto", src: URL.createObjectURL(file) });
    try {
      await once(video, "loadeddata", problem);
      if (!video.videoWidth) throw new Error(problem);
      const duration = await knownDuration(video);
      const rate = await measuredRate(video);
      return new FileSource(file.name, video, duration, rate, workingHeight);
    } catch (error) {
      URL.revokeObjectURL(video.src);
      throw error;
    }
  }

  constructor(name, video, duration, rate, workingHeight) {
    this.name = name;
    this.framesPerSecond = rate;
    this.count = Math.max(1, Math.round(duration * rate));
    this.size = workingSize(video.videoWidth, video.videoHeight, workingHeight);
    this.#video = video;
  }

  // To the middle of a frame's time, where rounding cannot show its neighbour.
  async next() {
    if (this.#index >= this.count) return null;
    const index = this.#index++;
    const sought = once(this.#video, "seeked", `${this.name} could not be read at frame ${index}.`);
    this.#video.currentTime = (index + 0.5) / this.framesPerSecond;
    await sought;
    return new Frame(drawn(this.#video, this.size), index, index / this.framesPerSecond);
  }

  seek(index) {
    this.#index = index;
  }

  close() {
    URL.revokeObjectURL(this.#video.src);
    this.#video.removeAttribute("src");
    this.#video.load();
  }
}

const NO_CAMERA = {
  NotAllowedError: "The browser did not allow the camera. Allow it for this page and try again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program.",
};

async function cameraStream(workingHeight) {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers give the camera only to pages from https:// or localhost.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { height: { ideal: workingHeight } }, audio: false });
  } catch (error) {
    throw new Error(NO_CAMERA[error.name] ?? `The camera cannot be used: ${error.message}`);
  }
}

/** The webcam: every frame is the newest; `skipped` counts those that nobody asked for. */
export class CameraSource {
  name = "Webcam";
  live = true;
  count = 0;
  skipped = 0;
  #video;
  #stream;
  #index = 0;
  #presented = 0;

  static async open(workingHeight) {
    const stream = await cameraStream(workingHeight);
    const video = document.createElement("video");
    Object.assign(video, { muted: true, playsInline: true, srcObject: stream });
    await video.play();
    return new CameraSource(video, stream, workingHeight);
  }

  constructor(video, stream, workingHeight) {
    this.#video = video;
    this.#stream = stream;
    this.framesPerSecond = stream.getVideoTracks()[0].getSettings().frameRate || 30;
    this.size = workingSize(video.videoWidth, video.videoHeight, workingHeight);
  }

  async next() {
    const metadata = await this.#presentedFrame();
    if (!this.#stream.active) return null;
    const shownAt = metadata.captureTime ?? performance.now();
    const capturedAt = (performance.timeOrigin + shownAt) / 1000;
    if (this.#presented) this.skipped += Math.max(0, metadata.presentedFrames - this.#presented - 1);
    this.#presented = metadata.presentedFrames;
    return new Frame(drawn(this.#video, this.size), this.#index++, this.#video.currentTime, capturedAt);
  }

  // A page in the background is called for no frames; it goes on at one a second.
  #presentedFrame() {
    return new Promise((resolve) => {
      const late = setTimeout(() => resolve({ presentedFrames: this.#presented }), 1000);
      this.#video.requestVideoFrameCallback((_, metadata) => {
        clearTimeout(late);
        resolve(metadata);
      });
    });
  }

  seek(index) {
    this.#index = index;
  }

  close() {
    for (const track of this.#stream.getTracks()) track.stop();
    this.#video.srcObject = null;
  }
}
