import { Badge } from "@mantine/core";
import { type Key, useLanguage } from "../i18n";
import { en } from "../i18n/en";

const colours: Record<string, string> = {
  Queued: "yellow",
  Pending: "yellow",
  Starting: "cyan",
  Preparing: "cyan",
  Building: "cyan",
  Running: "blue",
  Progressing: "cyan",
  Available: "green",
  Ready: "green",
  NotReady: "red",
  Cordoned: "orange",
  Target: "cyan",
  Stable: "green",
  RolledBack: "orange",
  Degraded: "orange",
  Unavailable: "red",
  Succeeded: "green",
  Delivered: "green",
  Checking: "cyan",
  RollingOut: "cyan",
  Canary: "blue",
  Refused: "orange",
  NotTaken: "orange",
  Failed: "red",
  OutOfMemory: "red",
  StartFailed: "red",
  NodeLost: "red",
  BackingOff: "orange",
  Stopping: "orange",
  Warning: "orange",
};

const isKey = (key: string): key is Key => key in en;

/** A phase in the reader's language, the same colour everywhere; the API's word is in its title. The word carries the meaning, the colour only helps. */
export function Phase({ phase }: { phase: string | undefined }) {
  const { t } = useLanguage();
  const word = phase || "–";
  const key = `phase.${word}`;
  return (
    <Badge
      color={colours[word] ?? "gray"}
      variant="light"
      c="var(--mantine-color-text)"
      tt="none"
      title={word}
      style={{ flexShrink: 0, minWidth: "max-content" }}
    >
      {isKey(key) ? t(key) : word}
    </Badge>
  );
}

/** The word for a phase in lists to choose from. */
export function usePhaseWord(): (phase: string) => string {
  const { t } = useLanguage();
  return (phase) => {
    const key = `phase.${phase}`;
    return isKey(key) ? t(key) : phase;
  };
}
