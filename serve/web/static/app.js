// The page: puts its parts together. Nothing here knows the protocol, draws a pixel or keeps a mask.

import { applyTheme, askToken, currentToken, showHelp, toggleTheme } from "./dialogs.js";
import { Drafts } from "./drafts.js";
import { Drawing } from "./drawing.js";
import { Follower } from "./follower.js";
import { History } from "./history.js";
import { Hud } from "./hud.js";
import { ObjectList } from "./objects.js";
import { Overlay } from "./overlay.js";
import { Saving } from "./saving.js";
import { listenForShortcuts } from "./shortcuts.js";
import { CameraSource, ClipSource, FileSource } from "./sources.js";

const HIGHEST_ID = 255;
const at = (id) => document.getElementById(id);
const history = new History();
const hud = new Hud();
const overlay = new Overlay(at("view"));
const drafts = new Drafts(draftsChanged);
const list = new ObjectList(at("objects"), { correct, remove, changed: lookChanged });
const drawing = new Drawing(at("draft"), drafts, {
  activeId: () => list.activeId,
  regionOf,
  say: (text) => write("spoken", text),
});
const follower = new Follower({
  shown,
  changed: refresh,
  status,
  failed,
  finished: () => status("The end of the source."),
  token: currentToken,
  askToken,
});
const saving = new Saving({ follower, history, overlay, list, look, status, failed, changed: refresh, repaint });
let opening = false;

function write(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

// A countdown changes every second; only its first words are for the screen reader.
function status(text, announce = true) {
  at("status").ariaLive = announce ? "polite" : "off";
  write("status", text);
  if (text) write("alert", "");
}

function failed(error) {
  write("status", "");
  write("alert", inWords(error));
  refresh();
}

function inWords({ code, message }) {
  if (code === "UNAUTHENTICATED") return "A token is needed to follow objects on this server.";
  return message || "Something went wrong.";
}

function look() {
  const [opacity, contour, labels] = [at("opacity").valueAsNumber / 100, at("contour").checked, at("labels").checked];
  return { opacity, contour, labels, hidden: list.hidden, nameOf: (id) => list.nameOf(id) };
}

function repaint() {
  if (follower.shown) overlay.paint(follower.shown.frame.picture, follower.shown.map, follower.shown.objects, look());
}

function shown(answer) {
  const { width, height } = answer.frame.picture;
  document.querySelector(".frame").style.setProperty("--shape", width / height);
  repaint();
  drawing.fit(width, height);
  list.update(answer.objects, draftedIds());
  if (answer.header) history.put(kept(answer));
  hud.answered(answer, follower);
  refreshDownloads();
  showPosition(answer.frame.index);
}

function kept({ frame, width, height, values, lengths, objects }) {
  return { index: frame.index, pts: frame.pts, width, height, values, lengths, objects };
}

function showPosition(index) {
  const { count } = follower.source;
  at("progress").hidden = !count;
  if (count) at("progress").value = (index + 1) / count;
  write("position", count ? `frame ${index + 1} of ${count}` : `frame ${index + 1}`);
}

function draftedIds() {
  return drafts.entries().map(([id]) => id);
}

function freeId() {
  const taken = new Set([...follower.ids, ...draftedIds()]);
  for (let id = 1; id <= HIGHEST_ID; id += 1) if (!taken.has(id)) return id;
  return HIGHEST_ID;
}

function regionOf(id) {
  const { map } = follower.shown;
  return map?.includes(id) ? map.map((value) => (value === id ? 1 : 0)) : null;
}

function draftsChanged() {
  if (follower.shown) list.update(follower.shown.objects, draftedIds());
  drawing.paint();
  refresh();
}

function lookChanged() {
  if (!follower.shown) return;
  repaint();
  list.update(follower.shown.objects, draftedIds());
  drawing.paint();
}

const isPaused = () => Boolean(follower.shown) && !follower.playing && follower.inFlight.size === 0 && !saving.busy;

function refresh() {
  const [paused, loaded] = [isPaused(), Boolean(follower.shown)];
  drawing.enabled = paused;
  at("draft").classList.toggle("ready", paused);
  at("draft").tabIndex = loaded ? 0 : -1;
  at("welcome").hidden = loaded;
  for (const id of ["play", "step", "restart"]) at(id).disabled = !loaded || saving.busy;
  at("stop").disabled = follower.linkState === "not connected" && !follower.playing;
  at("apply").disabled = !paused || drafts.size === 0;
  at("auto").disabled = !paused;
  at("undo").disabled = !drafts.canUndo;
  at("clear").disabled = drafts.size === 0;
  for (const id of ["source-clip", "source-file", "source-camera"]) at(id).disabled = opening || saving.busy;
  at("objects-hint").hidden = follower.ids.length + drafts.size > 0;
  refreshPlay();
  refreshDownloads();
  refreshLink();
}

function refreshPlay() {
  const { playing } = follower;
  at("play").ariaLabel = playing ? "Pause" : "Play";
  at("play").querySelector("use").setAttribute("href", playing ? "#i-pause" : "#i-play");
  const state = `${follower.source?.name}, ${playing ? "playing" : "paused"}`;
  at("view").ariaLabel = follower.source ? state : "No picture yet";
}

function refreshDownloads() {
  const none = history.size === 0;
  at("save-masks").disabled = at("save-coco").disabled = none || saving.busy;
  at("save-video").disabled = none;
  const again = saving.busy ? "Stop recording" : "Overlay video";
  write("save-video", follower.source?.live ? (saving.isRecording ? "Stop recording" : "Record overlay video") : again);
  const lost = history.forgotten ? `; the first ${history.forgotten} were too many to keep` : "";
  write("kept", none ? "Nothing followed yet." : `Masks of ${history.size} ${history.size === 1 ? "frame" : "frames"}${lost}.`);
}

function refreshLink() {
  const state = follower.linkState;
  at("link").dataset.state = state;
  write("link", state);
  hud.idle(follower);
}

async function take(open, what) {
  if (opening || saving.busy) return;
  opening = true;
  status(`Opening ${what}.`);
  refresh();
  try {
    const source = await open(Number(at("working-height").value));
    forget();
    await follower.load(source);
    const rate = `${Number(source.framesPerSecond.toFixed(2))} frames/s`;
    const { width, height } = source.size;
    status(`${source.name}: ${width}x${height}, ${rate}. Draw what to follow, then press play.`);
  } catch (error) {
    failed(error);
  } finally {
    opening = false;
    refresh();
  }
}

function forget() {
  history.clear();
  list.forget();
  drafts.clear();
  hud.restart();
}

async function play() {
  if (!follower.source || saving.busy) return;
  if (follower.playing) {
    await pause();
    return;
  }
  if (!(await apply())) return;
  status("Playing.");
  hud.restart();
  await follower.play();
}

async function pause() {
  if (follower.playing) status("Pausing.");
  await follower.pause();
  if (!at("alert").textContent) status(`Paused at frame ${follower.shown.frame.index + 1}.`);
}

async function step() {
  if (!follower.source || saving.busy || !(await apply())) return;
  status(`Frame ${follower.shown.frame.index + 2}.`);
  await follower.step();
}

/** Sends what is drawn, with the shown frame; false when that failed. */
async function apply(auto = 0) {
  const { width, height } = follower.shown.frame.picture;
  const prompts = drafts.prompts(width, height);
  if (prompts.length < drafts.size) status("Clicks beside an object say nothing without one on it.");
  if (prompts.length === 0 && auto === 0) return drafts.size === 0;
  status(auto > 0 ? "Looking for objects." : "Sending what is drawn.");
  const applied = await follower.apply(prompts, auto);
  if (applied) {
    drafts.clear();
    list.select(freeId());
    status(`Following ${follower.ids.length} ${follower.ids.length === 1 ? "object" : "objects"}.`);
  }
  refresh();
  return applied;
}

async function restart() {
  if (!follower.source || saving.busy) return;
  forget();
  try {
    await follower.restart();
    status("Back at the beginning.");
  } catch (error) {
    failed(error);
  }
}

async function stop() {
  await follower.stop();
  status("Stopped. What was followed can still be downloaded.");
}

async function correct(id) {
  await follower.pause();
  list.select(id);
  status(`Correcting ${list.nameOf(id)}: draw on the picture, then apply or play.`);
}

async function add() {
  await follower.pause();
  list.select(freeId());
  status(`Draw object ${list.activeId} on the picture.`);
}

function remove(id) {
  drafts.drop(id);
  follower.remove(id);
  if (follower.shown) list.update(follower.shown.objects, draftedIds());
  status(`${list.nameOf(id)} removed.`);
  if (list.activeId === id) list.select(freeId());
  refresh();
}

function chooseTool(tool) {
  document.querySelector(`input[name=tool][value=${tool}]`).checked = true;
  drawing.tool = tool;
  drawing.cancel();
  at("brush-size-label").hidden = tool !== "brush" && tool !== "eraser";
}

function resizeBrush(by) {
  at("brush-size").valueAsNumber += by;
  drawing.brushSize = at("brush-size").valueAsNumber;
}

const takeClip = () => take(ClipSource.open, "the bundled clip");
const takeFile = (file) => file && take((height) => FileSource.open(file, height), file.name);

function listenToSources() {
  at("source-clip").onclick = at("welcome-clip").onclick = takeClip;
  at("source-camera").onclick = () => take(CameraSource.open, "the webcam");
  at("source-file").onclick = () => at("file").click();
  at("file").onchange = () => {
    takeFile(at("file").files[0]);
    at("file").value = ""; // the same file can be chosen again
  };
  listenToDrops(at("stage"));
}

function listenToDrops(stage) {
  const mark = (isOver) => (event) => {
    event.preventDefault();
    stage.classList.toggle("over", isOver);
  };
  stage.addEventListener("dragover", mark(true));
  stage.addEventListener("dragleave", mark(false));
  stage.addEventListener("drop", (event) => {
    mark(false)(event);
    takeFile(event.dataTransfer.files[0]);
  });
}

function listenToControls() {
  const clicks = { play, step, restart, stop, add, help: showHelp, theme: toggleTheme };
  for (const [id, act] of Object.entries(clicks)) at(id).onclick = () => act();
  at("apply").onclick = () => apply();
  at("auto").onclick = () => apply(at("auto-count").valueAsNumber || 1);
  at("undo").onclick = () => drafts.undo();
  at("clear").onclick = () => drafts.clear();
  at("tools").onchange = (event) => chooseTool(event.target.value);
  at("brush-size").oninput = () => resizeBrush(0);
  for (const id of ["opacity", "contour", "labels"]) at(id).oninput = lookChanged;
  at("save-masks").onclick = () => saving.masks();
  at("save-coco").onclick = () => saving.coco();
  at("save-video").onclick = () => saving.video();
  at("draft").addEventListener("pointerdown", () => follower.playing && pause());
}

listenForShortcuts({
  " ": play,
  ArrowRight: () => !at("step").disabled && step(),
  b: () => chooseTool("box"),
  c: () => chooseTool("points"),
  m: () => chooseTool("brush"),
  e: () => chooseTool("eraser"),
  "[": () => resizeBrush(-4),
  "]": () => resizeBrush(4),
  n: add,
  z: () => drafts.undo(),
  a: () => !at("apply").disabled && apply(),
  d: () => at("draft").focus(),
  Delete: () => remove(list.activeId),
  "?": showHelp,
});
applyTheme();
listenToSources();
listenToControls();
chooseTool("box");
refresh();
