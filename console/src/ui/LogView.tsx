import { ScrollArea, Stack, Switch, Text } from "@mantine/core";
import { useEffect, useRef, useState } from "react";
import { call } from "../api/client";
import { useLanguage } from "../i18n";
import { Cli } from "./Cli";

/** Lines kept on the page; older ones are in the download. */
const LINES_MAX = 5_000;

/** The output of all replicas, followed while the Job runs. */
export function LogView({ path, follow, command }: { path: string; follow: boolean; command: string }) {
  const { t } = useLanguage();
  const [lines, setLines] = useState<string[]>([]);
  const [stick, setStick] = useState(true);
  const viewport = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const stop = new AbortController();
    setLines([]);
    void readLines(`${path}?follow=${follow}&tail=${LINES_MAX}&prefix=true`, stop.signal, (more) =>
      setLines((before) => [...before, ...more].slice(-LINES_MAX)),
    );
    return () => stop.abort();
  }, [path, follow]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: new lines are the reason to scroll.
  useEffect(() => {
    if (stick) viewport.current?.scrollTo({ top: viewport.current.scrollHeight });
  }, [lines, stick]);
  return (
    <Stack gap="xs">
      <Switch
        label={t("job.follow")}
        checked={stick}
        onChange={(event) => setStick(event.currentTarget.checked)}
        size="sm"
      />
      <ScrollArea h={320} viewportRef={viewport} type="auto">
        {lines.length === 0 ? (
          <Text c="dimmed">{t("job.noLogs")}</Text>
        ) : (
          <pre
            role="log"
            aria-label={t("job.logs")}
            style={{ margin: 0, fontSize: 12.5, whiteSpace: "pre-wrap" }}
          >
            {lines.join("\n")}
          </pre>
        )}
      </ScrollArea>
      <Cli command={command} />
    </Stack>
  );
}

/** Reads text as it comes and hands out whole lines, many at once. Starts again after a lost connection. */
async function readLines(path: string, signal: AbortSignal, show: (lines: string[]) => void): Promise<void> {
  try {
    const response = await call(path, { signal, headers: { Accept: "text/plain" } });
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    while (reader) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop() ?? "";
      if (parts.length > 0) show(parts);
    }
    if (rest) show([rest]);
  } catch (error) {
    if (!signal.aborted) show([String(error)]);
  }
}
