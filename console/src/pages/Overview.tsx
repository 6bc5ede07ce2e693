import { Alert, Group, List, Progress, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { get, list } from "../api/client";
import { keys } from "../api/live";
import type { Amount, Node } from "../api/types";
import { useLanguage } from "../i18n";
import { amountParts, toNumber } from "../ui/amount";
import { Cli } from "../ui/Cli";
import { DataTable } from "../ui/DataTable";
import { EventTable } from "../ui/EventTable";
import { Phase } from "../ui/Phase";
import { Loaded, Section } from "../ui/Section";

interface Status {
  jobs: Record<string, number>;
  apps: Record<string, number>;
  warnings?: string[];
}

export function Overview() {
  const { t } = useLanguage();
  const status = useQuery({
    queryKey: ["status"],
    queryFn: () => get<Status>("/v1/status"),
    refetchInterval: 5_000,
  });
  const nodes = useQuery({ queryKey: keys.list("Node"), queryFn: () => list("Node") });
  const queues = useQuery({
    queryKey: keys.list("Queue"),
    queryFn: () => list("Queue"),
    refetchInterval: 10_000,
  });
  const events = useQuery({ queryKey: keys.list("Event"), queryFn: () => list("Event", { limit: 20 }) });
  return (
    <Stack>
      <Title order={1} size="h3">
        {t("nav.overview")}
      </Title>
      <Loaded query={status}>
        {({ jobs, apps, warnings }) => (
          <>
            <SimpleGrid cols={{ base: 1, xs: 3 }}>
              <Count title={t("overview.running")} value={jobs.Running ?? 0} to="/jobs" phase="Running" />
              <Count title={t("overview.waiting")} value={jobs.Queued ?? 0} to="/jobs" phase="Queued" />
              <Count
                title={t("overview.apps")}
                value={Object.values(apps).reduce((a, b) => a + b, 0)}
                to="/apps"
              />
            </SimpleGrid>
            {warnings && warnings.length > 0 && (
              <Alert color="yellow" title={t("overview.warnings")}>
                <List size="sm">
                  {warnings.map((warning) => (
                    <List.Item key={warning}>{warning}</List.Item>
                  ))}
                </List>
              </Alert>
            )}
          </>
        )}
      </Loaded>
      <Section title={t("overview.nodes")}>
        <Loaded query={nodes}>
          {({ items }) => (
            <DataTable
              label={t("overview.nodes")}
              items={items}
              id={(node) => node.metadata.name ?? ""}
              columns={[
                { title: t("common.name"), cell: (node) => node.metadata.name },
                { title: t("common.phase"), cell: (node) => <NodeState node={node} /> },
                { title: t("overview.cpu"), cell: (node) => <Share node={node} part="cpu" /> },
                { title: t("overview.memory"), cell: (node) => <Share node={node} part="memory" /> },
                { title: t("overview.gpu"), cell: (node) => <Share node={node} part="gpu" /> },
              ]}
            />
          )}
        </Loaded>
      </Section>
      <Section title={t("overview.queues")}>
        <Loaded query={queues}>
          {({ items }) => (
            <DataTable
              label={t("overview.queues")}
              items={items}
              id={(queue) => queue.metadata.name ?? ""}
              columns={[
                { title: t("common.name"), cell: (queue) => queue.metadata.name },
                { title: t("overview.runningTasks"), cell: (queue) => queue.status?.running ?? 0 },
                { title: t("overview.waitingTasks"), cell: (queue) => queue.status?.waiting ?? 0 },
              ]}
            />
          )}
        </Loaded>
      </Section>
      <Section title={t("overview.events")}>
        <Loaded query={events}>{({ items }) => <EventTable events={items} withObject />}</Loaded>
      </Section>
      <Cli command="moonshot status" />
    </Stack>
  );
}

function Count(props: { title: string; value: number; to: "/jobs" | "/apps"; phase?: string }) {
  return (
    <Section title={props.title}>
      <Text component="div" size="xl" fw={700}>
        <Link to={props.to} search={{ phase: props.phase }}>
          {props.value}
        </Link>
      </Text>
    </Section>
  );
}

function NodeState({ node }: { node: Node }) {
  const { t } = useLanguage();
  if (!node.status?.ready) return <Phase phase={t("overview.notReady")} />;
  return <Phase phase={t(node.spec.unschedulable ? "overview.cordoned" : "overview.ready")} />;
}

function Share({ node, part }: { node: Node; part: keyof Amount & ("cpu" | "memory" | "gpu") }) {
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
