// The three downloads of what has been followed so far.

import { cocoJson, masksZip, save } from "./downloads.js";
import { Recording, recordAgain, videoEnding, videoKind } from "./recorder.js";

function baseName(source) {
  return source.name.replace(/\.[^.]*$/, "").replace(/[^\w-]+/g, "-").toLowerCase() || "maskstream";
}

export class Saving {
  busy = false;
  #page;
  #recording = null; // of a live source, while it runs
  #stopped = false;

  /** `page`: follower, history, overlay, list, look(), status(text), failed(error), changed(), repaint(). */
  constructor(page) {
    this.#page = page;
  }

  get isRecording() {
    return this.#recording !== null;
  }

  async masks() {
    await this.#work(async (name, entries, names) => {
      const zip = await masksZip(entries, names, this.#progress("Packing masks"));
      save(zip, `${name}-masks.zip`);
    });
  }

  async coco() {
    await this.#work(async (name, entries, names) => {
      const coco = await cocoJson(entries, names, this.#page.follower.source.name, this.#progress("Writing masks"));
      save(new Blob([JSON.stringify(coco)], { type: "application/json" }), `${name}-coco.json`);
    });
  }

  /** Records a live source from now until it is called again; plays any other once more and records that. */
  async video() {
    const kind = videoKind();
    if (!kind) this.#page.failed(new Error("This browser cannot record video."));
    else if (this.busy) this.#stopped = true;
    else if (this.#page.follower.source.live) await this.#liveVideo(kind);
    else await this.#work((name) => this.#videoAgain(name, kind));
  }

  async #liveVideo(kind) {
    const { overlay, follower, changed } = this.#page;
    if (!this.#recording) {
      this.#recording = new Recording(overlay.canvas, kind);
      changed();
      return;
    }
    const recording = this.#recording;
    this.#recording = null;
    changed();
    save(await recording.finish(), `${baseName(follower.source)}-overlay.${videoEnding(kind)}`);
  }

  async #videoAgain(name, kind) {
    const { follower, history, overlay, look, repaint } = this.#page;
    this.#stopped = false;
    const progress = this.#progress("Recording");
    try {
      const video = await recordAgain(follower.source, history, overlay, look(), kind, () => this.#stopped, progress);
      save(video, `${name}-overlay.${videoEnding(kind)}`);
    } finally {
      follower.source.seek(follower.shown.frame.index + 1);
      repaint();
    }
  }

  // In words only now and then: every frame would be too many for whoever listens.
  #progress(what) {
    let told = 0;
    return (done, all) => {
      if (performance.now() - told < 1000) return;
      told = performance.now();
      this.#page.status(`${what}: ${done} of ${all}.`);
    };
  }

  async #work(work) {
    const { follower, history, list, status, failed, changed } = this.#page;
    if (this.busy) return;
    this.busy = true;
    await follower.pause();
    changed();
    try {
      const entries = history.entries();
      const ids = new Set(entries.flatMap((entry) => entry.objects.map(({ id }) => id)));
      await work(baseName(follower.source), entries, list.names(ids));
      status("Saved.");
    } catch (error) {
      failed(error);
    } finally {
      this.busy = false;
      changed();
    }
  }
}
