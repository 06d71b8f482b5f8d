// Opens a stream, and tries again where waiting may help: a full server says for how long, a lost connection is looked
// for at growing intervals, a refused token is asked for once more.

import { Link, StreamProblem } from "./link.js";

const ATTEMPTS = 8; // where the server does not say that another one is worth it
const LONGEST_WAIT = 8; // seconds, unless the server asks for more

export const STOPPED = new StreamProblem({ code: "CANCELLED", reason: "STOPPED", message: "Stopped." });

/** Seconds to wait before the next attempt (0, 1, ...) after a StreamProblem, or null where it would not help. */
export function retryAfter({ code, retrySeconds }, attempt) {
  const wait = Math.min(LONGEST_WAIT, 0.5 * 2 ** attempt);
  if (typeof retrySeconds === "number") return Math.max(retrySeconds, attempt > 0 ? wait : 0);
  return code === "UNAVAILABLE" && attempt < ATTEMPTS ? wait : null;
}

/** Resolves after so many seconds, or rejects at once when `signal` is aborted. */
export function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    signal.addEventListener("abort", stop, { once: true });
  });
}

function inWords(problem) {
  return problem.reason === "SERVER_FULL" ? "The server is full." : problem.message;
}

async function countDown(problem, seconds, status, signal) {
  for (let left = Math.ceil(seconds); left > 0; left -= 1) {
    status(`${inWords(problem)} Trying again in ${left} s.`, left === Math.ceil(seconds));
    await sleep(Math.min(1, seconds - (left - 1)), signal);
  }
}

async function attemptOnce(options, handlers, signal) {
  const link = new Link(handlers.message, (problem) => handlers.end(link, problem));
  const abandon = () => link.abandon();
  signal.addEventListener("abort", abandon, { once: true });
  try {
    return { link, opened: await link.open({ ...options, token: handlers.token() }) };
  } finally {
    signal.removeEventListener("abort", abandon);
    signal.throwIfAborted();
  }
}

/**
 * {link, opened} of a stream opened with `options`. `handlers`: message(message), end(link, problem), token(),
 * askToken() resolving to false when the person gives up, status(text, first). Throws the last StreamProblem.
 */
export async function connect(options, handlers, signal, attempt = 0) {
  for (; ; attempt += 1) {
    try {
      signal.throwIfAborted();
      return await attemptOnce(options, handlers, signal);
    } catch (problem) {
      if (problem.code === "UNAUTHENTICATED") {
        if (!(await handlers.askToken())) throw problem;
        continue;
      }
      const seconds = retryAfter(problem, attempt);
      if (seconds === null) throw problem;
      await countDown(problem, seconds, handlers.status, signal);
    }
  }
}
