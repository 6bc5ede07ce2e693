import { Anchor, Box, Group, NativeSelect, Stack, Switch, Text } from "@mantine/core";
import { memo, useEffect, useRef, useState } from "react";
import { type Line, readLogs } from "../api/logs";
import { useLanguage } from "../i18n";
import { Cli } from "./Cli";
import { Failure } from "./Section";

/** Lines kept on the page; older ones are in the download. */
const LINES_MAX = 5_000;
/** Lines that come faster than this are shown together. */
const SHOW_MS = 100;

interface Shown extends Line {
  id: number;
}

/** The output of all replicas, followed while more may come. `attempts` offers the earlier ones. */
export function LogView(props: {
  path: string;
  follow: boolean;
  attempts?: number;
  command: string;
  download: string;
}) {
  const { t } = useLanguage();
  const { path } = props;
  const [lines, setLines] = useState<Shown[]>([]);
  const [failure, setFailure] = useState<unknown>();
  const [stick, setStick] = useState(true);
  const [replica, setReplica] = useState("");
  const [attempt, setAttempt] = useState("");
  const box = useRef<HTMLDivElement>(null);
  // The stream outlives the Job's end: what is written last is still read.
  const follow = useRef(props.follow);
  follow.current = props.follow;

  useEffect(() => {
    const stop = new AbortController();
    const waiting: Shown[] = [];
    let number = 0;
    let timer: number | undefined;
    setLines([]);
    setFailure(undefined);
    const flush = () => {
      timer = undefined;
      const fresh = waiting.splice(0);
      setLines((before) => [...before, ...fresh].slice(-LINES_MAX));
    };
    const show = (more: Line[]) => {
      for (const line of more) waiting.push({ ...line, id: number++ });
      if (waiting.length > LINES_MAX) waiting.splice(0, waiting.length - LINES_MAX);
      timer ??= window.setTimeout(flush, SHOW_MS);
    };
    const goesOn = () => follow.current && attempt === "";
    const query = {
      tail: String(LINES_MAX),
      ...(attempt ? { attempt } : { follow: String(follow.current) }),
    };
    readLogs(`${path}/logs`, query, goesOn, stop.signal, show).catch((error: unknown) => {
      if (!stop.signal.aborted) setFailure(error);
    });
    return () => {
      stop.abort();
      window.clearTimeout(timer);
    };
  }, [path, attempt]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: new lines are the reason to scroll.
  useEffect(() => {
    if (stick) box.current?.scrollTo({ top: box.current.scrollHeight });
  }, [lines, stick, replica]);

  const replicas = [...new Set(lines.map((line) => line.replica))].sort();
  const shown = replica ? lines.filter((line) => line.replica === replica) : lines;
  const attempts = Array.from({ length: props.attempts ?? 1 }, (_, index) => String(index + 1)).reverse();
  return (
    <Stack gap="xs">
      <Group gap="md">
        <NativeSelect
          size="xs"
          aria-label={t("log.replica")}
          value={replica}
          onChange={(event) => setReplica(event.currentTarget.value)}
          data={[{ value: "", label: t("log.allReplicas") }, ...replicas]}
        />
        {attempts.length > 1 && (
          <NativeSelect
            size="xs"
            aria-label={t("log.attempt")}
            value={attempt}
            onChange={(event) => setAttempt(event.currentTarget.value)}
            data={[
              { value: "", label: t("log.newest") },
              ...attempts.map((value) => ({ value, label: t("log.attemptNumber", { number: value }) })),
            ]}
          />
        )}
        <Switch
          label={t("log.stick")}
          checked={stick}
          onChange={(event) => setStick(event.currentTarget.checked)}
          size="xs"
        />
        <Anchor size="sm" href={`${path}/logs?prefix=true&timestamps=true`} download={props.download}>
          {t("log.download")}
        </Anchor>
      </Group>
      {failure !== undefined && <Failure error={failure} />}
      {/* The keyboard must be able to scroll it. */}
      <Box
        ref={box}
        component="section"
        aria-label={t("log.title")}
        tabIndex={0}
        mah={360}
        style={{ overflow: "auto", background: "var(--mantine-color-default-hover)", borderRadius: 4 }}
        p="xs"
      >
        {shown.length === 0 && (
          <Text size="sm" c="dimmed">
            {t("log.none")}
          </Text>
        )}
        <div role="log" aria-live="off" style={{ fontFamily: "monospace", fontSize: 12.5 }}>
          {shown.map((line) => (
            <LogLine key={line.id} line={line} withReplica={!replica && replicas.length > 1} />
          ))}
        </div>
      </Box>
      <Cli command={props.command} />
    </Stack>
  );
}

const streamColour: Partial<Record<Line["stream"], string>> = { stderr: "red.9", system: "grape.9" };

const LogLine = memo(({ line, withReplica }: { line: Shown; withReplica: boolean }) => (
  <Text
    inherit
    component="div"
    c={streamColour[line.stream]}
    style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }}
  >
    {withReplica && (
      <Text span inherit c="dimmed">
        {line.replica} |{" "}
      </Text>
    )}
    {line.text || " "}
  </Text>
));
