import { call } from "./client";
import type { LogFrame } from "./types";

/** Before a lost stream of output is opened again. */
const REOPEN_MS = 1_000;
/** A stream that is opened again begins this long before the last frame: replicas' frames come out of order. */
const OVERLAP_MS = 60_000;

/** One line of a replica's output. */
export interface Line {
  replica: string;
  stream: LogFrame["stream"];
  text: string;
}

/** Joins frames into lines, each replica's and stream's apart, and drops frames that were seen. */
export class Lines {
  private readonly seen = new Map<string, number>();
  private readonly open = new Map<string, Line>();
  /** The newest frame's time. */
  last = 0;

  push(frame: LogFrame): Line[] {
    const replica = `${frame.group}/${frame.index}`;
    const attempt = `${replica}/${frame.attempt}`;
    if (frame.seq <= (this.seen.get(attempt) ?? 0)) return [];
    this.seen.set(attempt, frame.seq);
    this.last = Math.max(this.last, Date.parse(frame.time));
    const key = `${attempt}/${frame.stream}`;
    const before = this.open.get(key)?.text ?? "";
    const parts = (before + frame.text).split("\n");
    const rest = parts.pop() ?? "";
    if (rest) this.open.set(key, { replica, stream: frame.stream, text: rest });
    else this.open.delete(key);
    return parts.map((text) => ({ replica, stream: frame.stream, text }));
  }

  /** Last lines that were not ended. */
  finish(): Line[] {
    const rest = [...this.open.values()];
    this.open.clear();
    return rest;
  }
}

/**
 * Hands out lines as they come, many at once, without gaps or repetitions over lost connections. Ends when the
 * output has ended and `goesOn` says that no more will come, or by `signal`.
 */
export async function readLogs(
  path: string,
  query: Record<string, string>,
  goesOn: () => boolean,
  signal: AbortSignal,
  show: (lines: Line[]) => void,
): Promise<void> {
  const lines = new Lines();
  let params = new URLSearchParams({ ...query, format: "json" });
  for (;;) {
    try {
      await readOnce(`${path}?${params}`, signal, (frames) => {
        const fresh = frames.flatMap((frame) => lines.push(frame));
        if (fresh.length > 0) show(fresh);
      });
      if (!goesOn()) break;
    } catch (error) {
      // A refusal is final; a lost connection is not.
      if (signal.aborted || !(error instanceof TypeError)) throw error;
    }
    await new Promise((done) => setTimeout(done, REOPEN_MS));
    if (signal.aborted) return;
    const { tail: _, ...rest } = query;
    params = new URLSearchParams({ ...rest, format: "json" });
    if (lines.last > 0) params.set("since", new Date(lines.last - OVERLAP_MS).toISOString());
  }
  const rest = lines.finish();
  if (rest.length > 0) show(rest);
}

async function readOnce(
  path: string,
  signal: AbortSignal,
  show: (frames: LogFrame[]) => void,
): Promise<void> {
  const response = await call(path, { signal });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop() ?? "";
    if (parts.length > 0) show(parts.filter(Boolean).map((part) => JSON.parse(part) as LogFrame));
  }
}
