import { Badge } from "@mantine/core";

const colours: Record<string, string> = {
  Queued: "yellow",
  Starting: "cyan",
  Preparing: "cyan",
  Running: "blue",
  Progressing: "cyan",
  Available: "green",
  Ready: "green",
  Degraded: "orange",
  Unavailable: "red",
  Suspending: "gray",
  Suspended: "gray",
  Cancelling: "gray",
  Cancelled: "gray",
  Stopped: "gray",
  Succeeded: "green",
  Failed: "red",
  OutOfMemory: "red",
  StartFailed: "red",
  NodeLost: "red",
  BackingOff: "orange",
  Stopping: "orange",
  Warning: "orange",
};

/** A phase, the same colour everywhere. The word carries the meaning; the colour only helps. */
export function Phase({ phase }: { phase: string | undefined }) {
  const word = phase || "–";
  return (
    <Badge color={colours[word] ?? "gray"} variant="light" tt="none">
      {word}
    </Badge>
  );
}
