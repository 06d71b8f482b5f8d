// Figures of the stream: how old the picture is, how fast it goes, where the server's time went. They change with every
// frame and are therefore not announced.

const STAGES = ["queue", "decode", "resize", "encode_frame", "segment", "encode_mask", "finish", "encode"];
const STAGE_COLOURS = ["#8e9aa6", "#6fb7ff", "#4f86c6", "#2fc1a0", "#f2b84b", "#e8785a", "#b58cf0", "#d06aa8"];
const RATE_SECONDS = 2; // over which frames/s are counted
const DRAW_MILLISECONDS = 200; // between changes of the figures: faster, nobody can read them

function milliseconds(seconds) {
  return `${Math.round(seconds * 1000)} ms`;
}

export class Hud {
  #times = [];
  #drawnAt = 0;
  #late = 0; // the timer of figures held back

  /** Counts frames/s anew, as after a pause. */
  restart() {
    this.#times = [];
  }

  /** Shows an answer that has just been painted. `follower` gives drops, frames in flight and limits. */
  answered(shown, follower, now = performance.now()) {
    if (!shown.header) return;
    this.#times.push(now);
    this.#times = this.#times.filter((time) => time > now - RATE_SECONDS * 1000);
    clearTimeout(this.#late);
    const wait = this.#drawnAt + DRAW_MILLISECONDS - now;
    const age = shown.frame.capturedAt === null ? shown.age / 1000 : Date.now() / 1000 - shown.frame.capturedAt;
    if (wait <= 0) this.#write(shown, age, follower);
    else this.#late = setTimeout(() => this.#write(shown, age, follower), wait);
  }

  /** The figures that change without an answer. */
  idle(follower) {
    set("flight", String(follower.inFlight.size));
    set("drops", String(follower.dropped + (follower.source?.skipped ?? 0)));
    const { opened } = follower;
    set("model", opened ? `${opened.model} (${opened.model_version.slice(0, 12)})` : "-");
  }

  #write({ header }, age, follower) {
    this.#drawnAt = performance.now();
    set("age", milliseconds(age));
    set("fps", this.#rate());
    set("memory", `${header.memory_frames} of ${follower.opened?.max_memory_frames ?? "?"}`);
    set("server", header.timings?.total === undefined ? "-" : milliseconds(header.timings.total));
    showStages(header.timings ?? {});
    this.idle(follower);
  }

  #rate() {
    const [first, last] = [this.#times[0], this.#times.at(-1)];
    return last > first ? (((this.#times.length - 1) * 1000) / (last - first)).toFixed(1) : "-";
  }
}

function set(name, text) {
  document.getElementById(`hud-${name}`).textContent = text;
}

// A bar with a part a stage; in words for whoever cannot see it.
function showStages(timings) {
  const bar = document.getElementById("hud-stages");
  const known = STAGES.filter((stage) => timings[stage] > 0);
  const total = known.reduce((sum, stage) => sum + timings[stage], 0) || 1;
  const words = known.map((stage) => `${stage} ${milliseconds(timings[stage])}`).join(", ");
  bar.title = words;
  bar.role = "img";
  bar.ariaLabel = words || "none";
  bar.replaceChildren(...known.map((stage) => {
    const part = document.createElement("i");
    part.style.width = `${(100 * timings[stage]) / total}%`;
    part.style.background = STAGE_COLOURS[STAGES.indexOf(stage)];
    return part;
  }));
}
