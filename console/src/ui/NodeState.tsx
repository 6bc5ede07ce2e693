import { Group, Progress, Text } from "@mantine/core";
import type { Amount, Node } from "../api/types";
import { useLanguage } from "../i18n";
import { amountParts, toNumber } from "./amount";
import { Phase } from "./Phase";

/** Whether a node answers and takes new work. */
export function NodeState({ node }: { node: Node }) {
  if (!node.status?.ready) return <Phase phase="NotReady" />;
  return <Phase phase={node.spec.unschedulable ? "Cordoned" : "Ready"} />;
}

/** How much of a resource is placed. */
export function Share({ node, part }: { node: Node; part: keyof Amount & ("cpu" | "memory" | "gpu") }) {
  const { t } = useLanguage();
  const total = node.status?.allocatable?.[part];
  if (total === undefined || total === null) return <>–</>;
  const used = node.status?.used?.[part] ?? 0;
  const percent = (100 * toNumber(used)) / Math.max(toNumber(total), 1e-9);
  const label = t("overview.used", { used: amountParts(part, used), total: amountParts(part, total) });
  return (
    <Group gap={6} wrap="nowrap" miw={120}>
      <Progress value={percent} w={60} aria-label={label} />
      <Text size="xs">{label}</Text>
    </Group>
  );
}
