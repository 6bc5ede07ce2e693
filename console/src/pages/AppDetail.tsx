import { Accordion, Alert, Badge, Code, Group, NumberInput, Progress, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { useState } from "react";
import { get, objectPath, projectFlag, send } from "../api/client";
import { keys } from "../api/live";
import type { App, Event, Revision } from "../api/types";
import { useLanguage } from "../i18n";
import { Cli } from "../ui/Cli";
import { Confirm } from "../ui/Confirm";
import { Diff } from "../ui/Diff";
import { differences } from "../ui/diff";
import { EditButton } from "../ui/EditButton";
import { EventTable } from "../ui/EventTable";
import { LogView } from "../ui/LogView";
import { PageTitle } from "../ui/PageTitle";
import { Phase } from "../ui/Phase";
import { ReplicaTable } from "../ui/ReplicaTable";
import { Loaded, Section } from "../ui/Section";
import { Time } from "../ui/Time";
import { manifest } from "../ui/yaml";

const route = getRouteApi("/projects/$project/apps/$name");

export function AppDetail() {
  const { project, name } = route.useParams();
  const path = objectPath("App", project, name);
  const app = useQuery({ queryKey: keys.one("App", project, name), queryFn: () => get<App>(path) });
  return <Loaded query={app}>{(data) => <Detail key={data.metadata.uid} app={data} path={path} />}</Loaded>;
}

function Detail({ app, path }: { app: App; path: string }) {
  const { t } = useLanguage();
  const { name = "", project = "", uid } = app.metadata;
  const status = app.status;
  const flag = projectFlag(project);
  const revisions = useQuery({
    queryKey: ["revisions", uid],
    queryFn: () => get<{ items: Revision[] }>(`${path}/revisions`),
  });
  const events = useQuery({
    queryKey: keys.eventsOf(uid),
    queryFn: () => get<{ items: Event[] }>(`${path}/events`),
  });
  return (
    <Stack>
      <PageTitle
        title={name}
        beside={<Phase phase={status?.phase} />}
        actions={<Actions app={app} path={path} />}
      />
      <Section title={t("app.rollout")}>
        <Rollout app={app} flag={flag} />
      </Section>
      <Section title={t("common.replicas")}>
        <ReplicaTable
          label={t("common.replicas")}
          empty={t("app.noReplicas")}
          replicas={status?.instances ?? []}
        />
      </Section>
      <Section title={t("app.revisions")}>
        <Loaded query={revisions}>
          {({ items }) => <Revisions revisions={items} app={app} flag={flag} path={path} />}
        </Loaded>
      </Section>
      <Section title={t("job.logs")}>
        <LogView
          path={path}
          follow
          command={`moonshot logs -f app/${name}${flag}`}
          download={`${name}.log`}
        />
      </Section>
      <Section title={t("job.events")}>
        <Loaded query={events}>{({ items }) => <EventTable events={items} />}</Loaded>
      </Section>
      <Section title={t("common.manifest")}>
        <Code
          block
          role="group"
          aria-label={t("common.manifest")}
          style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }}
        >
          {manifest(app)}
        </Code>
      </Section>
      <Cli command={`moonshot describe app ${name}${flag}`} />
    </Stack>
  );
}

/** How far the newest Revision has come. */
function Rollout({ app, flag }: { app: App; flag: string }) {
  const { t } = useLanguage();
  const { name = "" } = app.metadata;
  const {
    revision = 0,
    stableRevision = 0,
    ready = 0,
    updated = 0,
    replicas = 0,
    url,
    message,
  } = app.status ?? {};
  const moves = revision !== stableRevision;
  return (
    <Stack gap="xs">
      <Text>
        {t(moves ? "app.moving" : "app.standing", { revision, stable: stableRevision })}{" "}
        {t("app.counts", { ready, updated, replicas })}
      </Text>
      {moves && (
        <Progress value={(100 * updated) / Math.max(replicas, 1)} aria-label={t("app.rollout")} animated />
      )}
      {message && <Alert color={app.status?.phase === "Ready" ? "gray" : "yellow"}>{message}</Alert>}
      {url && <Code style={{ overflowWrap: "anywhere" }}>{url}</Code>}
      <Cli command={`moonshot rollout status app/${name}${flag}`} />
    </Stack>
  );
}

function Actions({ app, path }: { app: App; path: string }) {
  const { t } = useLanguage();
  const { name = "", project = "" } = app.metadata;
  const wanted = app.status?.replicas ?? app.spec.replicas ?? 1;
  const [replicas, setReplicas] = useState(wanted);
  const flag = projectFlag(project);
  return (
    <>
      <Confirm
        label={t("app.scale")}
        question={t("app.scaleHint", { replicas: wanted })}
        command={`moonshot scale app/${name} --replicas ${replicas}${flag}`}
        action={() => send<App>("PUT", `${path}/scale`, { replicas })}
      >
        <NumberInput
          label={t("common.replicas")}
          min={0}
          max={1_000}
          allowDecimal={false}
          value={replicas}
          onChange={(value) => setReplicas(Number(value) || 0)}
        />
      </Confirm>
      <Confirm
        label={t("app.restart")}
        question={t("app.restartSure")}
        command={`moonshot rollout restart app/${name}${flag}`}
        action={() => send<App>("POST", `${path}/restart`)}
      />
      <EditButton kind="App" project={project} name={name} />
    </>
  );
}

function Revisions(props: { revisions: Revision[]; app: App; flag: string; path: string }) {
  const { t } = useLanguage();
  const { name = "" } = props.app.metadata;
  const current = props.app.status?.revision;
  const ordered = [...props.revisions].sort((a, b) => b.number - a.number);
  return (
    <Stack gap="xs">
      <Accordion variant="separated" order={3}>
        {ordered.map((revision, index) => {
          const before = ordered[index + 1];
          const isCurrent = revision.number === current;
          return (
            <Accordion.Item key={revision.number} value={String(revision.number)}>
              <Accordion.Control>
                <Group gap="sm">
                  <Text fw={600}>{`${t("apps.revision")} ${revision.number}`}</Text>
                  {isCurrent && <Badge tt="none">{t("app.current")}</Badge>}
                  <Phase phase={revision.state} />
                  <Text size="sm" c="dimmed">
                    <Time at={revision.createdAt} /> · {revision.creator}
                  </Text>
                </Group>
              </Accordion.Control>
              <Accordion.Panel>
                <Stack gap="xs">
                  {revision.message && <Text>{revision.message}</Text>}
                  {before ? (
                    <>
                      <Text size="sm">{t("app.diff", { revision: before.number })}</Text>
                      <Diff
                        label={t("app.diff", { revision: before.number })}
                        lines={differences(before.template, revision.template)}
                      />
                    </>
                  ) : (
                    <Text size="sm">{t("app.noDiff")}</Text>
                  )}
                  {isCurrent ? (
                    <Cli
                      command={`moonshot rollout history app/${name} --revision ${revision.number}${props.flag}`}
                    />
                  ) : (
                    <Group>
                      <Confirm
                        label={t("app.rollback")}
                        about={`${t("apps.revision")} ${revision.number}`}
                        question={t("app.rollbackSure", { revision: revision.number })}
                        command={`moonshot rollout undo app/${name} --to-revision ${revision.number}${props.flag}`}
                        action={() =>
                          send<App>("POST", `${props.path}/rollback`, { revision: revision.number })
                        }
                      />
                    </Group>
                  )}
                </Stack>
              </Accordion.Panel>
            </Accordion.Item>
          );
        })}
      </Accordion>
      <Cli command={`moonshot rollout history app/${name}${props.flag}`} />
    </Stack>
  );
}
