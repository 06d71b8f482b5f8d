// One WebSocket, which is one stream of the server: opens it, writes to it, and hands on what comes.

import { packMessage, unpackResult } from "./messages.js";

const PROTOCOL = "maskstream.v1";

/** Why a stream could not be opened or was ended: `code` is gRPC's, `reason` the server's stable word for it. */
export class StreamProblem extends Error {
  constructor({ code, reason, message, retry_seconds: retrySeconds }) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.retrySeconds = retrySeconds;
  }
}

const LOST = { code: "UNAVAILABLE", reason: "CONNECTION_LOST", message: "The connection to the server was lost." };

function streamAddress() {
  const address = new URL("v1/stream", document.baseURI);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  return address;
}

export class Link {
  #socket;
  #problem = null;
  #onMessage;
  #onEnd;
  #settle;

  /** `onMessage(message)` gets every answer but `opened`; `onEnd(problem)` is called once, null for a clean end. */
  constructor(onMessage, onEnd) {
    this.#onMessage = onMessage;
    this.#onEnd = onEnd;
  }

  /** Resolves to the `opened` message; rejects with a StreamProblem. */
  open(options) {
    this.#socket = new WebSocket(streamAddress(), PROTOCOL);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.send({ type: "open", ...options });
    this.#socket.onmessage = (event) => this.#receive(event.data);
    this.#socket.onclose = () => this.#closed();
    return new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
  }

  /** Whether something can be sent now. */
  get ready() {
    return this.#socket?.readyState === WebSocket.OPEN && !this.#settle && !this.#problem;
  }

  /** Bytes that the network has not taken yet. */
  get waitingBytes() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  sendFrame(header, jpeg) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(packMessage(header, jpeg));
  }

  /** Ends the stream from this side; nothing is reported any more. */
  abandon() {
    this.#onMessage = this.#onEnd = () => {};
    this.#settle?.reject(new StreamProblem({ ...LOST, reason: "STOPPED", message: "Stopped." }));
    this.#settle = null;
    this.#socket?.close();
  }

  #receive(data) {
    const message = typeof data === "string" ? JSON.parse(data) : { type: "result", ...unpackResult(data) };
    if (message.type === "ended") this.#problem = new StreamProblem(message);
    else if (message.type === "opened") {
      this.#settle?.resolve(message);
      this.#settle = null;
    } else if (message.type === "closed") this.#problem = "clean";
    else this.#onMessage(message);
  }

  #closed() {
    const problem = this.#problem ?? new StreamProblem(LOST);
    if (this.#settle) {
      this.#settle.reject(problem === "clean" ? new StreamProblem(LOST) : problem);
      this.#settle = null;
    } else this.#onEnd(problem === "clean" ? null : problem);
  }
}
