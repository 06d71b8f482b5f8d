// Follows what is in a box on the first picture through a folder of JPEGs, and prints the area of each object on each.
//
//   node dist/follow.js localhost:50051 frames/ 120,80,200,160 [masks/]
//
// The types are generated from the proto. Frames are sent as they lie on disk; answers come as runs, which are decoded
// here. With a folder for masks each is written as a PGM picture whose grey value is the object's id.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { ProtoGrpcType } from "./generated/maskstream.js";
import type { FrameResult__Output } from "./generated/maskstream/v1/FrameResult.js";
import type { Mask__Output } from "./generated/maskstream/v1/Mask.js";

const PROTO = fileURLToPath(new URL("../../../protos/maskstream/v1/maskstream.proto", import.meta.url));

/** Row-major runs to one byte a pixel. */
function decode(mask: Mask__Output): Uint8Array {
  const pixels = new Uint8Array(mask.width * mask.height);
  let at = 0;
  mask.labelRuns!.lengths.forEach((length, run) => {
    pixels.fill(mask.labelRuns!.values[run]!, at, at + length);
    at += length;
  });
  if (at !== pixels.length) throw new Error(`the runs cover ${at} of ${pixels.length} pixels`);
  return pixels;
}

function report(name: string, result: FrameResult__Output, masks: string | undefined): void {
  const { width, height } = result.labelMap!;
  const pixels = decode(result.labelMap!);
  const areas = new Map<number, number>();
  for (const id of pixels) if (id) areas.set(id, (areas.get(id) ?? 0) + 1);
  const seen = [...areas].sort(([one], [other]) => one - other);
  console.log([name, ...seen.map(([id, area]) => `${id}:${area}`)].join(" "));
  if (masks) {
    const header = Buffer.from(`P5 ${width} ${height} 255\n`);
    writeFileSync(join(masks, `${basename(name, extname(name))}.pgm`), Buffer.concat([header, pixels]));
  }
}

function follow(target: string, folder: string, box: number[], masks: string | undefined): Promise<void> {
  const names = readdirSync(folder).filter((name) => /\.jpe?g$/i.test(name)).sort();
  if (!names.length) throw new Error(`${folder}: no JPEG in it`);
  const [x, y, width, height] = box;
  const definition = loadSync(PROTO, { longs: Number, enums: String, defaults: true, oneofs: true });
  const { MaskStreamService } = (grpc.loadPackageDefinition(definition) as unknown as ProtoGrpcType).maskstream.v1;
  const client = new MaskStreamService(target, grpc.credentials.createInsecure());
  const call = client.Propagate();

  let next = 0;
  const firstFrameSeq = 2; // 1 is `open`
  const sendFrame = (): void => {
    if (next === names.length) return void call.end();
    if (next > names.length) return;
    const prompts = next === 0 ? { objects: [{ objectId: 1, box: { x, y, width, height } }] } : undefined;
    const jpeg = readFileSync(join(folder, names[next]!));
    call.write({ seq: firstFrameSeq + next, frame: { jpeg, prompts } });
  };
  const sendNext = (): void => {
    sendFrame();
    next += 1;
  };

  return new Promise((resolve, reject) => {
    call.on("data", (response) => {
      if (response.opened) {
        // So many frames may wait for an answer; more would only wait in the connection.
        for (let i = 0; i < response.opened.maxInFlight; i += 1) sendNext();
      } else if (response.result) {
        report(names[response.result.seq - firstFrameSeq]!, response.result, masks);
        sendNext();
      } else if (response.error) {
        console.error(`${names[response.error.seq - firstFrameSeq]}: ${response.error.reason}: ${response.error.message}`);
        sendNext();
      }
    });
    call.on("error", reject);
    call.on("end", () => resolve(client.close()));
    call.write({ seq: 1, open: { delivery: "DELIVERY_POLICY_LOSSLESS" } });
  });
}

const [target, folder, box, masks] = process.argv.slice(2);
if (!target || !folder || !/^\d+,\d+,\d+,\d+$/.test(box ?? "")) {
  console.error("usage: follow.js HOST:PORT FOLDER X,Y,WIDTH,HEIGHT [MASKS]");
  process.exit(2);
}
if (masks) mkdirSync(masks, { recursive: true });
follow(target, folder, box!.split(",").map(Number), masks).catch((error: Error) => {
  console.error(error.message);
  process.exitCode = 1;
});
