import { Code, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { get, list, objectPath, projectFlag } from "../api/client";
import { keys } from "../api/live";
import type { Model, ModelVersion } from "../api/types";
import { useLanguage } from "../i18n";
import { bytes, toNumber } from "../ui/amount";
import { Cli } from "../ui/Cli";
import { DataTable } from "../ui/DataTable";
import { ListPage } from "../ui/ListPage";
import { PageTitle } from "../ui/PageTitle";
import { Loaded, Section } from "../ui/Section";
import { Time } from "../ui/Time";
import { Words } from "../ui/Words";

const listRoute = getRouteApi("/models");
const route = getRouteApi("/projects/$project/models/$name");
/** Versions shown of one project's models. */
const VERSIONS_MAX = 1_000;

export function Models() {
  const { t } = useLanguage();
  return (
    <ListPage
      kind="Model"
      path="/models"
      title={t("models.title")}
      empty={<Words text={t("models.empty")} />}
      search={listRoute.useSearch()}
      columns={[
        {
          title: t("common.name"),
          cell: ({ metadata: { project = "", name = "" } }) => (
            <Link to="/projects/$project/models/$name" params={{ project, name }}>
              {name}
            </Link>
          ),
        },
        { title: t("common.project"), cell: (model) => model.metadata.project, wide: true },
        { title: t("models.latest"), cell: (model) => model.status?.latest || "–" },
        { title: t("models.description"), cell: (model) => model.spec.description ?? "–", wide: true },
        { title: t("common.created"), cell: (model) => <Time at={model.metadata.createdAt} /> },
      ]}
    />
  );
}

export function ModelDetail() {
  const { t } = useLanguage();
  const { project, name } = route.useParams();
  const model = useQuery({
    queryKey: keys.one("Model", project, name),
    queryFn: () => get<Model>(objectPath("Model", project, name)),
  });
  const versions = useQuery({
    queryKey: keys.list("ModelVersion", project),
    queryFn: () => list("ModelVersion", { project, limit: VERSIONS_MAX }),
  });
  const flag = projectFlag(project);
  return (
    <Loaded query={model}>
      {({ spec }) => (
        <Stack>
          <PageTitle title={name} />
          {spec.description && <Text>{spec.description}</Text>}
          <Section title={t("models.versions")}>
            <Loaded query={versions}>
              {({ items }) => (
                <Versions
                  versions={items.filter((version) => version.spec.model === name)}
                  project={project}
                  empty={<Words text={t("models.noVersions", { name })} />}
                />
              )}
            </Loaded>
          </Section>
          <Cli command={`moonshot model list ${name}${flag}`} />
        </Stack>
      )}
    </Loaded>
  );
}

function Versions(props: { versions: ModelVersion[]; project: string; empty: React.ReactNode }) {
  const { t } = useLanguage();
  const pairs = (map: Record<string, unknown> | undefined) =>
    Object.entries(map ?? {})
      .map(([key, value]) => `${key}=${typeof value === "number" ? Number(value.toPrecision(6)) : value}`)
      .join(", ") || "–";
  return (
    <DataTable
      label={t("models.versions")}
      items={[...props.versions].sort((a, b) => (b.spec.version ?? 0) - (a.spec.version ?? 0))}
      id={(version) => version.metadata.uid ?? ""}
      empty={props.empty}
      columns={[
        { title: t("models.version"), cell: (version) => version.spec.version },
        { title: t("models.format"), cell: (version) => version.spec.format || "–" },
        {
          title: t("job.size"),
          cell: (version) => (version.spec.size ? bytes(toNumber(version.spec.size)) : "–"),
          wide: true,
        },
        {
          title: t("models.job"),
          cell: ({ spec: { lineage } }) =>
            lineage?.job ? (
              <Link to="/projects/$project/jobs/$name" params={{ project: props.project, name: lineage.job }}>
                {lineage.job}
              </Link>
            ) : (
              "–"
            ),
        },
        { title: t("models.environment"), cell: ({ spec }) => spec.lineage?.environment ?? "–", wide: true },
        { title: t("models.params"), cell: ({ spec }) => pairs(spec.lineage?.params), wide: true },
        { title: t("models.metrics"), cell: ({ spec }) => pairs(spec.lineage?.metrics) },
        {
          title: t("models.digest"),
          cell: ({ spec }) => <Code title={spec.digest ?? ""}>{spec.digest?.slice(0, 19) ?? "–"}</Code>,
          wide: true,
        },
        {
          title: t("common.created"),
          cell: (version) => <Time at={version.metadata.createdAt} />,
          wide: true,
        },
      ]}
    />
  );
}
