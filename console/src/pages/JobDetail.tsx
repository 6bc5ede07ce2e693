import { Alert, Anchor, Code, Group, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, useNavigate } from "@tanstack/react-router";
import { get, objectPath, projectFlag, send } from "../api/client";
import { keys } from "../api/live";
import type { Attempt, Event, Job, Why as WhyAnswer } from "../api/types";
import { useLanguage } from "../i18n";
import { bytes, toNumber } from "../ui/amount";
import { Cli } from "../ui/Cli";
import { Confirm } from "../ui/Confirm";
import { DataTable } from "../ui/DataTable";
import { EditButton } from "../ui/EditButton";
import { EventTable } from "../ui/EventTable";
import { LogView } from "../ui/LogView";
import { PageTitle } from "../ui/PageTitle";
import { Phase } from "../ui/Phase";
import { ReplicaTable } from "../ui/ReplicaTable";
import { Loaded, Section } from "../ui/Section";
import { Time } from "../ui/Time";
import { Words } from "../ui/Words";
import { manifest } from "../ui/yaml";

const route = getRouteApi("/projects/$project/jobs/$name");
const over = ["Succeeded", "Failed", "Cancelled"];

export function JobDetail() {
  const { project, name } = route.useParams();
  const path = objectPath("Job", project, name);
  const job = useQuery({ queryKey: keys.one("Job", project, name), queryFn: () => get<Job>(path) });
  return <Loaded query={job}>{(data) => <Detail key={data.metadata.uid} job={data} path={path} />}</Loaded>;
}

function Detail({ job, path }: { job: Job; path: string }) {
  const { t } = useLanguage();
  const { name = "", project = "", uid } = job.metadata;
  const status = job.status;
  const phase = status?.phase ?? "Queued";
  const isOver = over.includes(phase);
  const flag = projectFlag(project);
  const events = useQuery({
    queryKey: keys.eventsOf(uid),
    queryFn: () => get<{ items: Event[] }>(`${path}/events`),
  });
  const attempts = useQuery({
    queryKey: ["attempts", uid],
    queryFn: () => get<{ items: Attempt[] }>(`${path}/attempts`),
  });
  return (
    <Stack>
      <PageTitle
        title={name}
        beside={<Phase phase={phase} />}
        actions={<Actions job={job} path={path} isOver={isOver} />}
      />
      <Group gap="lg">
        <Fact label={t("common.created")}>
          <Time at={job.metadata.createdAt} />
        </Fact>
        <Fact label={t("common.started")}>
          <Time at={status?.startedAt} />
        </Fact>
        <Fact label={t("common.finished")}>
          <Time at={status?.finishedAt} />
        </Fact>
        <Fact label={t("jobs.attempts")}>{status?.attempts ?? 0}</Fact>
        <Fact label={t("common.queue")}>{job.spec.queue ?? "–"}</Fact>
        <Fact label={t("common.owner")}>{job.metadata.owner ?? "–"}</Fact>
      </Group>
      {status?.message && phase !== "Queued" && (
        <Alert color={phase === "Failed" ? "red" : "gray"} title={status.reason || phase}>
          <Words text={status.message} />
        </Alert>
      )}
      {phase === "Queued" && <Why path={path} command={`moonshot why job ${name}${flag}`} />}
      {status?.units && (
        <Section title={t("job.units")}>
          <Text>{t("job.unitCounts", { ...status.units })}</Text>
        </Section>
      )}
      <Section title={t("job.logs")}>
        <LogView
          path={path}
          follow={!isOver}
          attempts={status?.units ? 1 : status?.attempts}
          command={`moonshot logs -f job/${name}${flag}`}
          download={`${name}.log`}
        />
      </Section>
      <Section title={t("job.replicas")}>
        <ReplicaTable
          label={t("job.replicas")}
          empty={t("job.noReplicas")}
          replicas={status?.replicas ?? []}
        />
      </Section>
      <Section title={t("job.attempts")}>
        <Loaded query={attempts}>{({ items }) => <Attempts attempts={items} />}</Loaded>
      </Section>
      <Section title={t("job.outputs")}>
        <DataTable
          label={t("job.outputs")}
          items={status?.outputs ?? []}
          empty={<Words text={t("job.noOutputs")} />}
          id={(output) => output.name}
          columns={[
            { title: t("common.name"), cell: (output) => output.name },
            { title: t("job.size"), cell: (output) => bytes(toNumber(output.size)) },
            { title: t("job.writer"), cell: (output) => output.replica, wide: true },
            {
              title: t("job.download"),
              cell: (output) => (
                <Anchor
                  href={`${path}/outputs/${encodeURIComponent(output.name)}`}
                  download={`${name}-${output.name}.tar.zst`}
                  aria-label={`${t("job.download")}: ${output.name}`}
                >
                  {t("job.download")}
                </Anchor>
              ),
            },
            {
              title: t("common.cli"),
              cell: (output) => <Code>{`moonshot cp job/${name}:${output.name} .${flag}`}</Code>,
              wide: true,
            },
          ]}
        />
      </Section>
      {status?.delivery && (
        <Section title={t("job.delivery")}>
          <Group>
            <Phase phase={status.delivery.phase} />
          </Group>
          <Text style={{ overflowWrap: "anywhere" }}>
            <Words text={status.delivery.message ?? ""} />
          </Text>
          {status.delivery.metrics && (
            <Group gap="lg">
              {Object.entries(status.delivery.metrics).map(([metric, value]) => (
                <Fact key={metric} label={metric}>
                  {value}
                </Fact>
              ))}
            </Group>
          )}
        </Section>
      )}
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
          {manifest(job)}
        </Code>
      </Section>
      <Cli command={`moonshot describe job ${name}${flag}`} />
    </Stack>
  );
}

function Fact({ label, children }: { label: string; children: React.ReactNode }) {
  return (
    <Text size="sm">
      {label}: {children}
    </Text>
  );
}

function Actions({ job, path, isOver }: { job: Job; path: string; isOver: boolean }) {
  const { t } = useLanguage();
  const navigate = useNavigate();
  const { name = "", project = "" } = job.metadata;
  const flag = projectFlag(project);
  const isSuspended = job.spec.suspend === true;
  return (
    <>
      {!isOver && (
        <Confirm
          label={t(isSuspended ? "job.resume" : "job.suspend")}
          question={t(isSuspended ? "job.resumeSure" : "job.suspendSure")}
          command={`moonshot ${isSuspended ? "resume" : "suspend"} job/${name}${flag}`}
          action={() => send<Job>("POST", `${path}/${isSuspended ? "resume" : "suspend"}`)}
        />
      )}
      {!isOver && (
        <Confirm
          label={t("job.cancel")}
          question={t("job.cancelSure")}
          colour="red"
          command={`moonshot cancel job/${name}${flag}`}
          action={() => send<Job>("POST", `${path}/cancel`)}
        />
      )}
      <Confirm
        label={t("job.rerun")}
        question={t("job.rerunSure")}
        command={`moonshot rerun job/${name}${flag}`}
        action={() => send<Job>("POST", `${path}/rerun`)}
        done={(made) =>
          void navigate({
            to: "/projects/$project/jobs/$name",
            params: { project, name: made.metadata.name ?? "" },
          })
        }
      />
      <EditButton kind="Job" project={project} name={name} />
    </>
  );
}

function Attempts({ attempts }: { attempts: Attempt[] }) {
  const { t } = useLanguage();
  return (
    <DataTable
      label={t("job.attempts")}
      items={attempts}
      empty={t("job.noAttempts")}
      id={(attempt) => `${attempt.unit ?? ""}/${attempt.attempt}`}
      columns={[
        {
          title: t("job.attempt"),
          cell: ({ unit, attempt }) =>
            unit === undefined || unit === null ? attempt : `${t("job.unit", { unit })} · ${attempt}`,
        },
        { title: t("common.phase"), cell: (attempt) => <Phase phase={attempt.phase} /> },
        { title: t("common.started"), cell: (attempt) => <Time at={attempt.startedAt} />, wide: true },
        { title: t("common.finished"), cell: (attempt) => <Time at={attempt.finishedAt} />, wide: true },
        {
          title: t("job.charged"),
          cell: (attempt) => t(attempt.charged ? "common.yes" : "common.no"),
          wide: true,
        },
        {
          title: t("common.message"),
          cell: (attempt) => (
            <Text size="sm" style={{ overflowWrap: "anywhere" }}>
              {attempt.message || "–"}
            </Text>
          ),
        },
      ]}
    />
  );
}

function Why({ path, command }: { path: string; command: string }) {
  const { t } = useLanguage();
  const why = useQuery({ queryKey: ["why", path], queryFn: () => get<WhyAnswer>(`${path}/why`) });
  return (
    <Loaded query={why}>
      {({ sentence, details = [] }) => (
        <Alert color="yellow" title={t("job.why")}>
          <Text mb="xs">
            <Words text={sentence} />
          </Text>
          {details.length > 0 && (
            <ul>
              {details.map((detail) => (
                <li key={detail}>
                  <Words text={detail} />
                </li>
              ))}
            </ul>
          )}
          <Cli command={command} />
        </Alert>
      )}
    </Loaded>
  );
}
