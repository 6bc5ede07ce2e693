import { Alert, List, SimpleGrid, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { get, list } from "../api/client";
import { keys } from "../api/live";
import type { Overview as Status } from "../api/types";
import { useLanguage } from "../i18n";
import { Cli } from "../ui/Cli";
import { DataTable } from "../ui/DataTable";
import { EventTable } from "../ui/EventTable";
import { NodeState, Share } from "../ui/NodeState";
import { PageTitle } from "../ui/PageTitle";
import { Loaded, Section } from "../ui/Section";
import { Time } from "../ui/Time";
import { Words } from "../ui/Words";

/** Rows of each part of this page; its own page has all. */
const ROWS_MAX = 10;
const EVENTS_MAX = 20;

export function Overview() {
  const { t } = useLanguage();
  const status = useQuery({ queryKey: ["status"], queryFn: () => get<Status>("/v1/status") });
  const nodes = useQuery({
    queryKey: keys.list("Node", ROWS_MAX),
    queryFn: () => list("Node", { limit: ROWS_MAX }),
  });
  const events = useQuery({
    queryKey: keys.list("Event", EVENTS_MAX),
    queryFn: () => list("Event", { limit: EVENTS_MAX }),
  });
  return (
    <Stack>
      <PageTitle title={t("nav.overview")} />
      <Loaded query={status}>
        {({ jobs, apps, queues = [], warnings = [] }) => (
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
            {warnings.length > 0 && (
              <Alert color="yellow" title={t("overview.warnings")}>
                <List size="sm">
                  {warnings.map((warning) => (
                    <List.Item key={warning}>{warning}</List.Item>
                  ))}
                </List>
              </Alert>
            )}
            <SimpleGrid cols={{ base: 1, lg: 2 }}>
              <Jobs phase="Running" title={t("overview.runningNow")} empty={t("overview.nothingRuns")} />
              <Jobs phase="Queued" title={t("overview.waitingNow")} empty={t("overview.nothingWaits")} />
            </SimpleGrid>
            <Section title={t("overview.nodes")}>
              <Loaded query={nodes}>
                {({ items }) => (
                  <DataTable
                    label={t("overview.nodes")}
                    items={items}
                    empty={t("nodes.empty")}
                    id={(node) => node.metadata.name ?? ""}
                    columns={[
                      {
                        title: t("common.name"),
                        cell: (node) => <Link to="/nodes">{node.metadata.name}</Link>,
                      },
                      { title: t("common.phase"), cell: (node) => <NodeState node={node} /> },
                      { title: t("overview.cpu"), cell: (node) => <Share node={node} part="cpu" /> },
                      {
                        title: t("overview.memory"),
                        cell: (node) => <Share node={node} part="memory" />,
                        wide: true,
                      },
                      {
                        title: t("overview.gpu"),
                        cell: (node) => <Share node={node} part="gpu" />,
                        wide: true,
                      },
                    ]}
                  />
                )}
              </Loaded>
            </Section>
            <Section title={t("overview.queues")}>
              <DataTable
                label={t("overview.queues")}
                items={queues.slice(0, ROWS_MAX)}
                empty={t("queues.empty")}
                id={(queue) => queue.name}
                columns={[
                  { title: t("common.name"), cell: (queue) => <Link to="/queues">{queue.name}</Link> },
                  { title: t("overview.runningTasks"), cell: (queue) => queue.running },
                  { title: t("overview.waitingTasks"), cell: (queue) => queue.waiting },
                ]}
              />
            </Section>
          </>
        )}
      </Loaded>
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
        <Link to={props.to} search={{ phase: props.phase }} aria-label={`${props.title}: ${props.value}`}>
          {props.value}
        </Link>
      </Text>
    </Section>
  );
}

/** The newest Jobs of a phase. */
function Jobs({ phase, title, empty }: { phase: "Running" | "Queued"; title: string; empty: string }) {
  const { t } = useLanguage();
  const jobs = useQuery({
    queryKey: keys.list("Job", phase, ROWS_MAX),
    queryFn: () => list("Job", { phase, limit: ROWS_MAX }),
  });
  return (
    <Section title={title}>
      <Loaded query={jobs}>
        {({ items }) => (
          <DataTable
            label={title}
            // A Job whose phase has changed stays in the answer until it is asked for again.
            items={items.filter((job) => job.status?.phase === phase)}
            empty={<Words text={empty} />}
            id={(job) => job.metadata.uid ?? ""}
            columns={[
              {
                title: t("common.name"),
                cell: ({ metadata: { project = "", name = "" } }) => (
                  <Link to="/projects/$project/jobs/$name" params={{ project, name }}>
                    {name}
                  </Link>
                ),
              },
              phase === "Running"
                ? { title: t("common.started"), cell: (job) => <Time at={job.status?.startedAt} /> }
                : {
                    title: t("common.message"),
                    cell: (job) => (
                      <Text size="sm" lineClamp={2}>
                        {job.status?.message}
                      </Text>
                    ),
                  },
            ]}
          />
        )}
      </Loaded>
    </Section>
  );
}
