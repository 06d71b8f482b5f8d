// Follows objects through a source: pulls frames, sends them within the window, shows what is answered, and carries on
// over a lost connection. The server's state lives as long as its stream, so a new stream is begun with the last
// answered frame and its masks, then gets again what was unanswered.

import { STOPPED, connect, retryAfter } from "./connect.js";
import { StreamProblem } from "./link.js";
import { expandRuns, regionRuns } from "./runs.js";

const MOST_IN_FLIGHT = { latest: 4, lossless: 3 }; // keeps the server busy, and a pause still comes soon
const MOST_WAITING_BYTES = 4 * 2 ** 20;

/** The mask prompts that begin a new stream where a shown answer left off. */
export function promptsOfAnswer(shown) {
  const regions = shown.ids.map((id) => [id, regionRuns(shown.values, shown.lengths, id)]);
  const { width, height } = shown;
  return regions.filter(([, region]) => region).map(([id, region]) => ({ id, mask: { width, height, ...region } }));
}

function emptyAnswer(frame) {
  const { width, height } = frame.picture;
  return { frame, map: null, values: [], lengths: [], width, height, ids: [], objects: [], header: null };
}

/** An answer without some of its objects: what was asked before they were removed still shows them. */
function withoutObjects(answer, ids) {
  const values = answer.values.map((value) => (ids.includes(value) ? 0 : value));
  const map = answer.map && expandRuns(values, answer.lengths, answer.map);
  const kept = answer.objects.filter(({ id }) => !ids.includes(id));
  return { ...answer, values, map, objects: kept, ids: kept.map(({ id }) => id) };
}

export class Follower {
  source = null;
  shown = null; // {frame, map, values, lengths, width, height, ids, objects, header, age} of the picture on screen
  opened = null; // the server's word on the stream
  playing = false;
  dropped = 0;
  inFlight = new Map(); // seq -> {frame, prompts, auto, jpeg, answered, sentAt}
  #events;
  #link = null;
  #connecting = null;
  #draining = false;
  #atEnd = false;
  #failures = 0; // connections lost since the last answer
  #reported = null;
  #loop = Promise.resolve();
  #seq = 0;
  #removedAt = new Map(); // id -> seq of its removal
  #waiting = [];
  #abort = new AbortController();

  /** `events`: shown(shown), changed(), status(text, first), failed(error), finished(), token(), askToken(). */
  constructor(events) {
    this.#events = events;
  }

  get linkState() {
    if (this.#link?.ready) return this.#draining ? "draining" : "connected";
    return this.#connecting ? "connecting" : "not connected";
  }

  get ids() {
    return this.shown?.ids ?? [];
  }

  /** Takes another source and shows its first frame; nothing is sent. */
  async load(source) {
    await this.stop();
    this.source?.close();
    this.source = source;
    this.shown = null;
    await this.restart();
  }

  /** Forgets all objects and shows the source's first frame. */
  async restart() {
    await this.stop();
    this.dropped = 0;
    this.source.seek(0);
    const frame = await this.source.next();
    if (!frame) throw new Error(`${this.source.name} has no frames.`);
    this.#show(emptyAnswer(frame));
  }

  /** Resolves when the source has ended or someone has paused. */
  async play() {
    if (this.playing || !this.source) return;
    await this.#loop;
    this.playing = true;
    this.#atEnd = false;
    this.#loop = this.#run(() => this.playing);
    this.#events.changed();
    await this.#loop;
  }

  /** Resolves when every frame that was sent is answered. */
  async pause() {
    this.playing = false;
    this.#events.changed();
    await this.#loop;
  }

  async step() {
    await this.pause();
    this.#atEnd = false;
    let steps = 1;
    this.#loop = this.#run(() => steps-- > 0);
    await this.#loop;
  }

  /** Ends the stream, which frees its place on the server; what is shown stays. */
  async stop() {
    this.playing = false;
    this.#abort.abort(STOPPED);
    this.#abort = new AbortController();
    this.#link?.send({ type: "close", seq: (this.#seq += 1), drain: false });
    this.#link?.abandon();
    this.#link = null;
    this.#draining = false;
    this.#giveUp(STOPPED);
    await this.#connecting?.catch(() => {});
    await this.#loop;
    this.#events.changed();
  }

  /** Sends the shown frame again, with prompts and a wish for `auto` found objects; false when that failed. */
  async apply(prompts, auto = 0) {
    await this.pause();
    const work = this.#send(this.shown.frame, prompts, auto).then((entry) => entry.answered);
    this.#loop = work.then(() => {}, () => {});
    try {
      await work;
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  remove(id) {
    if (!this.ids.includes(id)) return;
    this.#seq += 1;
    this.#link?.send({ type: "remove_objects", seq: this.#seq, ids: [id] });
    this.#removedAt.set(id, this.#seq);
    this.#show(withoutObjects(this.shown, [id]));
  }

  async #run(goOn) {
    try {
      while (goOn() && (await this.#advance()));
      await this.#until(() => this.inFlight.size === 0);
      if (this.#atEnd) this.#events.finished();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.playing = false;
      this.#events.changed();
    }
  }

  async #advance() {
    const startedAt = performance.now();
    const signal = this.#abort.signal;
    const frame = await this.source.next();
    signal.throwIfAborted();
    this.#atEnd = !frame;
    if (!frame) return false;
    if (this.ids.length > 0) await this.#send(frame, [], 0);
    else {
      this.#show(emptyAnswer(frame)); // nothing to follow: a look at the source, at its own pace
      const pause = this.source.live ? 0 : 1000 / this.source.framesPerSecond - (performance.now() - startedAt);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, pause)));
    }
    return true;
  }

  // Resolves when it is sent; `answered` of what it resolves to is settled by the answer.
  async #send(frame, prompts, auto) {
    const signal = this.#abort.signal;
    const entry = { frame, prompts, auto, jpeg: await frame.jpeg() };
    entry.answered = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
    entry.answered.catch(() => {}); // also told by #fail
    do {
      signal.throwIfAborted();
      if (!this.#link) await this.#connected();
      await this.#until(() => !this.#link || this.#hasRoom());
    } while (!this.#link);
    this.#write(entry);
    return entry;
  }

  #hasRoom() {
    if (!this.#link.ready || this.#draining) return false;
    const most = Math.min(this.opened.max_in_flight || 1, MOST_IN_FLIGHT[this.#delivery]);
    return this.inFlight.size < most && this.#link.waitingBytes < MOST_WAITING_BYTES;
  }

  get #delivery() {
    return this.source.live ? "latest" : "lossless";
  }

  #write(entry) {
    const { frame, prompts, auto, jpeg } = entry;
    this.#seq += 1;
    entry.sentAt = performance.now();
    this.inFlight.set(this.#seq, entry);
    const header = { type: "frame", seq: this.#seq, image: "jpeg", pts: frame.pts, capture_time: frame.capturedAt };
    this.#link.sendFrame({ ...header, prompts, ...(auto > 0 && { auto }) }, jpeg);
  }

  #connected() {
    if (this.#connecting) return this.#connecting;
    this.#connecting = this.#connect(this.#abort.signal).finally(() => {
      this.#connecting = null;
      this.#events.changed();
    });
    this.#events.changed();
    return this.#connecting;
  }

  async #connect(signal) {
    const options = { delivery: this.#delivery, max_in_flight: 0, max_frame_age: null, session_id: "" };
    const handlers = {
      ...this.#events,
      message: (message) => this.#receive(message),
      end: (link, problem) => this.#ended(link, problem),
    };
    const { link, opened } = await connect(options, handlers, signal, this.#failures);
    Object.assign(this, { opened });
    this.#link = link;
    this.#draining = false;
    const complete = await this.#resume(signal);
    this.#events.status(complete ? "" : "Objects that were out of sight were lost with the connection.", true);
  }

  // Resolves to whether every object could be taken along: what is out of sight has no mask to begin with.
  async #resume(signal) {
    const unanswered = [...this.inFlight.values()];
    const prompts = this.shown ? promptsOfAnswer(this.shown) : [];
    const jpeg = prompts.length > 0 ? await this.shown.frame.jpeg() : null;
    signal.throwIfAborted();
    this.inFlight.clear();
    if (jpeg) this.#write({ frame: this.shown.frame, prompts, auto: 0, jpeg, resolve() {}, reject() {} });
    unanswered.forEach((entry) => this.#write(entry));
    return prompts.length === this.ids.length;
  }

  #receive(message) {
    if (message.type === "result") this.#answer(message);
    else if (message.type === "dropped") message.seqs.forEach((seq) => this.#dropped(seq));
    else if (message.type === "frame_error") this.#refuse(message);
    else if (message.type === "draining") {
      this.#draining = true;
      this.#events.status("The server is going away. Looking for another one.", true);
    }
    if (this.#draining && this.inFlight.size === 0) {
      this.#seq += 1;
      this.#link?.send({ type: "close", seq: this.#seq, drain: true });
    }
    this.#wake();
  }

  #take(seq) {
    const entry = this.inFlight.get(seq);
    this.inFlight.delete(seq);
    return entry;
  }

  #answer({ header, values, lengths }) {
    const entry = this.#take(header.seq);
    if (!entry) return;
    this.#failures = 0;
    const { width, height, objects } = header;
    const map = expandRuns(values, lengths, new Uint8Array(width * height));
    const age = performance.now() - entry.sentAt;
    const ids = objects.map(({ id }) => id);
    const answer = { frame: entry.frame, map, values, lengths, width, height, ids, objects, header, age };
    const gone = ids.filter((id) => header.seq < (this.#removedAt.get(id) ?? 0));
    this.#show(gone.length > 0 ? withoutObjects(answer, gone) : answer);
    entry.resolve(header);
  }

  #dropped(seq) {
    this.#take(seq)?.resolve(null);
    this.dropped += 1;
  }

  #refuse({ seq, reason, message }) {
    const entry = this.#take(seq);
    const problem = new StreamProblem({ code: "", reason, message });
    if (entry?.prompts.length || entry?.auto) entry.reject(problem);
    else if (entry && reason === "NO_OBJECTS") this.#show(emptyAnswer(entry.frame)); // the last was just removed
    else this.#events.status(message, true);
  }

  #ended(link, problem) {
    if (link !== this.#link) return;
    this.#link = null;
    this.#draining = false;
    if (problem && this.inFlight.size > 0) {
      const again = retryAfter(problem, this.#failures) !== null;
      this.#failures += 1;
      if (again) {
        this.#events.status(`${problem.message} Reconnecting.`, true);
        this.#connected().catch((error) => this.#fail(error));
      } else this.#fail(problem);
    }
    this.#wake();
    this.#events.changed();
  }

  #show(answer) {
    this.shown = answer;
    this.#events.shown(answer);
  }

  #fail(error) {
    this.playing = false;
    this.#giveUp(error);
    if (error !== this.#reported && error !== STOPPED) this.#events.failed(error);
    this.#reported = error;
  }

  #giveUp(error) {
    const entries = [...this.inFlight.values()];
    this.inFlight.clear();
    entries.forEach((entry) => entry.reject(error));
    this.#wake();
  }

  async #until(condition) {
    const signal = this.#abort.signal;
    while (!condition()) {
      await new Promise((resolve) => this.#waiting.push(resolve));
      signal.throwIfAborted();
    }
  }

  #wake() {
    this.#waiting.splice(0).forEach((resolve) => resolve());
  }
}
