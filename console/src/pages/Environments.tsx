import { Alert, Code, List, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { get, objectPath, projectFlag } from "../api/client";
import { keys } from "../api/live";
import type { Environment, Event } from "../api/types";
import { useLanguage } from "../i18n";
import { Cli } from "../ui/Cli";
import { EventTable } from "../ui/EventTable";
import { ListPage } from "../ui/ListPage";
import { PageTitle } from "../ui/PageTitle";
import { Phase } from "../ui/Phase";
import { Loaded, Section } from "../ui/Section";
import { Time } from "../ui/Time";
import { Words } from "../ui/Words";

const listRoute = getRouteApi("/environments");
const route = getRouteApi("/projects/$project/environments/$name");

const source = ({ spec }: Environment) => spec.image ?? spec.pip?.join(", ") ?? "–";

export function Environments() {
  const { t } = useLanguage();
  return (
    <ListPage
      kind="Environment"
      path="/environments"
      title={t("environments.title")}
      empty={<Words text={t("environments.empty")} />}
      phases={["Building", "Ready", "Failed"]}
      search={listRoute.useSearch()}
      columns={[
        {
          title: t("common.name"),
          cell: ({ metadata: { project = "", name = "" } }) => (
            <Link to="/projects/$project/environments/$name" params={{ project, name }}>
              {name}
            </Link>
          ),
        },
        { title: t("common.project"), cell: (environment) => environment.metadata.project, wide: true },
        { title: t("common.phase"), cell: (environment) => <Phase phase={environment.status?.phase} /> },
        { title: t("common.version"), cell: (environment) => environment.status?.version ?? "–" },
        {
          title: t("environments.source"),
          cell: (environment) => (
            <Text size="sm" lineClamp={2}>
              {source(environment)}
            </Text>
          ),
          wide: true,
        },
      ]}
    />
  );
}

export function EnvironmentDetail() {
  const { project, name } = route.useParams();
  const path = objectPath("Environment", project, name);
  const environment = useQuery({
    queryKey: keys.one("Environment", project, name),
    queryFn: () => get<Environment>(path),
  });
  return <Loaded query={environment}>{(data) => <Detail environment={data} path={path} />}</Loaded>;
}

function Detail({ environment, path }: { environment: Environment; path: string }) {
  const { t } = useLanguage();
  const { name = "", project = "", uid } = environment.metadata;
  const { phase, message, version, builtAt, packages = [] } = environment.status ?? {};
  const events = useQuery({
    queryKey: keys.eventsOf(uid),
    queryFn: () => get<{ items: Event[] }>(`${path}/events`),
  });
  const flag = projectFlag(project);
  return (
    <Stack>
      <PageTitle title={name} beside={<Phase phase={phase} />} />
      <Text size="sm">
        {t("common.version")} {version ?? "–"} · {t("environments.built")}: <Time at={builtAt} />
      </Text>
      {message && (
        <Alert color={phase === "Failed" ? "red" : "gray"} title={t("common.message")}>
          <Text size="sm" style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }}>
            {message}
          </Text>
        </Alert>
      )}
      <Section title={t("environments.source")}>
        <Code block>{source(environment)}</Code>
      </Section>
      <Section title={t("environments.packages")}>
        {packages.length === 0 ? (
          <Text c="dimmed">{t("environments.noPackages")}</Text>
        ) : (
          <List size="sm">
            {packages.map((line) => (
              <List.Item key={line}>{line}</List.Item>
            ))}
          </List>
        )}
      </Section>
      <Section title={t("job.events")}>
        <Loaded query={events}>{({ items }) => <EventTable events={items} />}</Loaded>
      </Section>
      <Cli command={`moonshot describe environment ${name}${flag}`} />
    </Stack>
  );
}
