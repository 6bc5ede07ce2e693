import { Alert, Anchor, Code, Group, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { get, objectPath, send } from "../api/client";
import { keys } from "../api/live";
import type { Event, Job } from "../api/types";
import { useLanguage } from "../i18n";
import { bytes, toNumber } from "../ui/amount";
import { Cli } from "../ui/Cli";
import { Confirm } from "../ui/Confirm";
import { DataTable } from "../ui/DataTable";
import { EventTable } from "../ui/EventTable";
import { LogView } from "../ui/LogView";
import { Phase } from "../ui/Phase";
import { ReplicaTable } from "../ui/ReplicaTable";
import { Loaded, Section } from "../ui/Section";
import { Time } from "../ui/Time";

const route = getRouteApi("/projects/$project/jobs/$name");
const over = ["Succeeded", "Failed", "Cancelled"];

export function JobDetail() {
  const { t } = useLanguage();
  const { project, name } = route.useParams();
  const path = objectPath("Job", project, name);
  const job = useQuery({ queryKey: keys.one("Job", project, name), queryFn: () => get<Job>(path) });
  return (
    <Loaded query={job}>{(data) => <Detail key={data.metadata.uid} job={data} path={path} t={t} />}</Loaded>
  );
}

function Detail({ job, path, t }: { job: Job; path: string; t: ReturnType<typeof useLanguage>["t"] }) {
  const { name = "", project = "" } = job.metadata;
  const phase = job.status?.phase ?? "Queued";
  const isOver = over.includes(phase);
  const flag = project === "default" ? "" : ` --project ${project}`;
  const events = useQuery({
    queryKey: ["Event", "of", job.metadata.uid],
    queryFn: () => get<{ items: Event[] }>(`${path}/events`),
    refetchInterval: isOver ? false : 3_000,
  });
  return (
    <Stack>
      <Group justify="space-between">
        <Group>
          <Title order={1} size="h3" style={{ overflowWrap: "anywhere" }}>
            {name}
          </Title>
          <Phase phase={phase} />
        </Group>
        <Group>
          {!isOver && (
            <Confirm
              label={t("job.cancel")}
              question={t("job.cancelSure")}
              colour="red"
              command={`moonshot cancel job ${name}${flag}`}
              action={() => send("POST", `${path}/cancel`)}
            />
          )}
          <Confirm
            label={t("job.rerun")}
            command={`moonshot rerun job ${name}${flag}`}
            action={() => send("POST", `${path}/rerun`)}
          />
        </Group>
      </Group>
      <Group gap="lg">
        <Text size="sm">
          {t("common.created")}: <Time at={job.metadata.createdAt} />
        </Text>
        <Text size="sm">
          {t("common.started")}: <Time at={job.status?.startedAt} />
        </Text>
        <Text size="sm">
          {t("common.finished")}: <Time at={job.status?.finishedAt} />
        </Text>
        <Text size="sm">
          {t("jobs.attempts")}: {job.status?.attempts ?? 0}
        </Text>
      </Group>
      {job.status?.message && <Text>{job.status.message}</Text>}
      {phase === "Queued" && <Why path={path} command={`moonshot why job ${name}${flag}`} />}
      <Section title={t("job.logs")}>
        <LogView path={`${path}/logs`} follow={!isOver} command={`moonshot logs -f job/${name}${flag}`} />
      </Section>
      <Section title={t("job.replicas")}>
        <ReplicaTable label={t("job.replicas")} replicas={job.status?.replicas ?? []} />
      </Section>
      <Section title={t("job.outputs")}>
        <DataTable
          label={t("job.outputs")}
          items={job.status?.outputs ?? []}
          id={(output) => output.name}
          columns={[
            { title: t("common.name"), cell: (output) => output.name },
            { title: t("job.size"), cell: (output) => bytes(toNumber(output.size)) },
            {
              title: t("job.download"),
              cell: (output) => (
                <Anchor
                  href={`${path}/outputs/${encodeURIComponent(output.name)}`}
                  download={`${name}-${output.name}.tar.zst`}
                >
                  {t("job.download")}
                </Anchor>
              ),
            },
          ]}
        />
      </Section>
      <Section title={t("job.events")}>
        <Loaded query={events}>{({ items }) => <EventTable events={items} />}</Loaded>
      </Section>
      <Section title={t("job.spec")}>
        <Code block>{JSON.stringify(job.spec, null, 2)}</Code>
      </Section>
      <Cli command={`moonshot describe job ${name}${flag}`} />
    </Stack>
  );
}

function Why({ path, command }: { path: string; command: string }) {
  const { t } = useLanguage();
  const why = useQuery({
    queryKey: ["why", path],
    queryFn: () => get<{ sentence: string }>(`${path}/why`),
    refetchInterval: 2_000,
  });
  if (!why.data) return null;
  return (
    <Alert color="yellow" title={t("job.why")}>
      <Text mb="xs">{why.data.sentence}</Text>
      <Cli command={command} />
    </Alert>
  );
}
