import { Accordion, Badge, Code, Group, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { get, objectPath, send } from "../api/client";
import { keys } from "../api/live";
import type { App, Event, Revision } from "../api/types";
import { useLanguage } from "../i18n";
import { Cli } from "../ui/Cli";
import { Confirm } from "../ui/Confirm";
import { differences } from "../ui/diff";
import { EventTable } from "../ui/EventTable";
import { LogView } from "../ui/LogView";
import { Phase } from "../ui/Phase";
import { ReplicaTable } from "../ui/ReplicaTable";
import { Loaded, Section } from "../ui/Section";
import { Time } from "../ui/Time";

const route = getRouteApi("/projects/$project/apps/$name");

export function AppDetail() {
  const { project, name } = route.useParams();
  const path = objectPath("App", project, name);
  const app = useQuery({ queryKey: keys.one("App", project, name), queryFn: () => get<App>(path) });
  return <Loaded query={app}>{(data) => <Detail key={data.metadata.uid} app={data} path={path} />}</Loaded>;
}

function Detail({ app, path }: { app: App; path: string }) {
  const { t } = useLanguage();
  const { name = "", project = "" } = app.metadata;
  const status = app.status;
  const flag = project === "default" ? "" : ` --project ${project}`;
  const revisions = useQuery({
    queryKey: ["revisions", app.metadata.uid, status?.revision, status?.stableRevision],
    queryFn: () => get<{ items: Revision[] }>(`${path}/revisions`),
  });
  const events = useQuery({
    queryKey: ["Event", "of", app.metadata.uid],
    queryFn: () => get<{ items: Event[] }>(`${path}/events`),
    refetchInterval: 3_000,
  });
  return (
    <Stack>
      <Group>
        <Title order={1} size="h3" style={{ overflowWrap: "anywhere" }}>
          {name}
        </Title>
        <Phase phase={status?.phase} />
      </Group>
      <Section title={t("app.rollout")}>
        <Stack gap="xs">
          <Text>
            {t("apps.revision")} {status?.revision ?? "–"} · {t("apps.ready")} {status?.ready ?? 0}/
            {status?.replicas ?? 0}
          </Text>
          {status?.message && <Text>{status.message}</Text>}
          {status?.url && <Code style={{ overflowWrap: "anywhere" }}>{status.url}</Code>}
          <Cli command={`moonshot rollout status app/${name}${flag}`} />
        </Stack>
      </Section>
      <Section title={t("common.replicas")}>
        <ReplicaTable label={t("common.replicas")} replicas={status?.instances ?? []} />
      </Section>
      <Section title={t("app.revisions")}>
        <Loaded query={revisions}>
          {({ items }) => (
            <Revisions revisions={items} current={status?.revision} name={name} flag={flag} path={path} />
          )}
        </Loaded>
      </Section>
      <Section title={t("job.logs")}>
        <LogView path={`${path}/logs`} follow command={`moonshot logs -f app/${name}${flag}`} />
      </Section>
      <Section title={t("job.events")}>
        <Loaded query={events}>{({ items }) => <EventTable events={items} />}</Loaded>
      </Section>
      <Cli command={`moonshot describe app ${name}${flag}`} />
    </Stack>
  );
}

function Revisions(props: {
  revisions: Revision[];
  current: number | undefined;
  name: string;
  flag: string;
  path: string;
}) {
  const { t } = useLanguage();
  const ordered = [...props.revisions].sort((a, b) => b.number - a.number);
  return (
    <Accordion variant="separated">
      {ordered.map((revision, index) => {
        const before = ordered[index + 1];
        const isCurrent = revision.number === props.current;
        return (
          <Accordion.Item key={revision.number} value={String(revision.number)}>
            <Accordion.Control>
              <Group gap="sm">
                <Text fw={600}>{`${t("apps.revision")} ${revision.number}`}</Text>
                {isCurrent && <Badge tt="none">{t("app.current")}</Badge>}
                <Phase phase={revision.state} />
                <Text size="sm" c="dimmed">
                  <Time at={revision.createdAt} />
                </Text>
              </Group>
            </Accordion.Control>
            <Accordion.Panel>
              <Stack gap="xs">
                {revision.message && <Text>{revision.message}</Text>}
                <Text size="sm">{t("app.diff")}</Text>
                <Code block>
                  {before
                    ? differences(before.template, revision.template).join("\n") || "–"
                    : t("app.noDiff")}
                </Code>
                {!isCurrent && (
                  <Confirm
                    label={t("app.rollback")}
                    question={t("app.rollbackSure", { revision: revision.number })}
                    command={`moonshot rollout undo app/${props.name} --to-revision ${revision.number}${props.flag}`}
                    action={() => send("POST", `${props.path}/rollback`, { revision: revision.number })}
                  />
                )}
              </Stack>
            </Accordion.Panel>
          </Accordion.Item>
        );
      })}
    </Accordion>
  );
}
