import { expect, test } from "vitest";
import { Lines } from "./logs";
import type { LogFrame } from "./types";

const frame = (
  index: number,
  seq: number,
  text: string,
  stream: LogFrame["stream"] = "stdout",
): LogFrame => ({
  group: "worker",
  index,
  attempt: 1,
  stream,
  seq,
  time: `2026-01-01T00:00:0${seq}Z`,
  text,
});

test("lines of replicas and streams are joined apart", () => {
  const lines = new Lines();
  expect(lines.push(frame(0, 1, "a"))).toEqual([]);
  expect(lines.push(frame(1, 1, "b\n"))).toEqual([{ replica: "worker/1", stream: "stdout", text: "b" }]);
  expect(lines.push(frame(0, 2, "warning\n", "stderr"))).toEqual([
    { replica: "worker/0", stream: "stderr", text: "warning" },
  ]);
  expect(lines.push(frame(0, 3, "a\nc"))).toEqual([{ replica: "worker/0", stream: "stdout", text: "aa" }]);
  expect(lines.finish()).toEqual([{ replica: "worker/0", stream: "stdout", text: "c" }]);
});

test("a stream that is opened again repeats nothing", () => {
  const lines = new Lines();
  lines.push(frame(0, 1, "a\n"));
  lines.push(frame(0, 2, "b\n"));
  expect(lines.push(frame(0, 1, "a\n"))).toEqual([]);
  expect(lines.push(frame(0, 3, "c\n")).map((line) => line.text)).toEqual(["c"]);
  expect(lines.last).toBe(Date.parse("2026-01-01T00:00:03Z"));
});
