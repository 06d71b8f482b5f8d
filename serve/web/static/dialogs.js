// The two dialogs, and the choice between dark and light. The token is kept for this tab only.

const TOKEN_KEY = "maskstream-token";
const THEME_KEY = "maskstream-theme";

// Storage can be forbidden; then nothing is kept and the page works all the same.
function stored(storage, key) {
  try {
    return globalThis[storage].getItem(key);
  } catch {
    return null;
  }
}

function store(storage, key, value) {
  try {
    if (value === null) globalThis[storage].removeItem(key);
    else globalThis[storage].setItem(key, value);
  } catch {
    // see above
  }
}

let token = null;

/** The token given in this tab, or null. */
export function currentToken() {
  return token ?? stored("sessionStorage", TOKEN_KEY);
}

/** Asks for a token; resolves to false when the person cancels. */
export function askToken() {
  const dialog = document.getElementById("token-dialog");
  const field = document.getElementById("token");
  if (currentToken() !== null) {
    const text = document.getElementById("token-text");
    text.textContent = "The server did not take the token. Check it and try again.";
    store("sessionStorage", TOKEN_KEY, (token = null));
  }
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(takeToken(dialog, field)), { once: true });
  });
}

function takeToken(dialog, field) {
  const given = dialog.returnValue === "ok" && field.value !== "";
  if (given) store("sessionStorage", TOKEN_KEY, (token = field.value.trim()));
  field.value = "";
  return given;
}

export function showHelp() {
  document.getElementById("help-dialog").showModal();
}

/** Applies the kept choice; without one the system's counts. */
export function applyTheme() {
  const kept = stored("localStorage", THEME_KEY);
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
}

export function toggleTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const now = document.documentElement.dataset.theme ?? system;
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  store("localStorage", THEME_KEY, next);
}
