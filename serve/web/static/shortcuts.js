// Keys for the whole page. A key that means something to the control with the focus is left to it.

const TEXT = "input:not([type=range], [type=checkbox], [type=radio]), select, textarea";
const PRESSED_BY_SPACE = "button, input, select, summary, a";
const MOVED_BY_ARROWS = "input, select";

function isTaken(event) {
  const { target, key } = event;
  if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return true;
  if (!(target instanceof Element)) return false;
  if (target.matches(TEXT)) return true;
  if (key === " ") return target.matches(PRESSED_BY_SPACE);
  return key.startsWith("Arrow") && target.matches(MOVED_BY_ARROWS);
}

/** `acts`: key, as KeyboardEvent.key in lower case, to what it does. */
export function listenForShortcuts(acts) {
  document.addEventListener("keydown", (event) => {
    const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || isTaken(event)) return;
    event.preventDefault();
    if (!event.repeat || event.key === "ArrowRight") act();
  });
}
