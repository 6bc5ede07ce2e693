import { Text } from "@mantine/core";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useLanguage } from "../i18n";
import { ListPage } from "../ui/ListPage";
import { Phase } from "../ui/Phase";
import { Words } from "../ui/Words";

const phases = ["Progressing", "Ready", "Degraded", "Stopped", "Deleting"];
const route = getRouteApi("/apps");

export function Apps() {
  const { t } = useLanguage();
  return (
    <ListPage
      kind="App"
      path="/apps"
      title={t("apps.title")}
      empty={<Words text={t("apps.empty")} />}
      phases={phases}
      search={route.useSearch()}
      columns={[
        {
          title: t("common.name"),
          cell: ({ metadata: { project = "", name = "" } }) => (
            <Link to="/projects/$project/apps/$name" params={{ project, name }}>
              {name}
            </Link>
          ),
        },
        { title: t("common.project"), cell: (app) => app.metadata.project, wide: true },
        { title: t("common.phase"), cell: (app) => <Phase phase={app.status?.phase} /> },
        { title: t("apps.ready"), cell: (app) => `${app.status?.ready ?? 0}/${app.status?.replicas ?? 0}` },
        { title: t("apps.revision"), cell: (app) => app.status?.revision ?? "–" },
        {
          title: t("apps.url"),
          cell: (app) => (
            <Text size="sm" style={{ overflowWrap: "anywhere" }}>
              {app.status?.url}
            </Text>
          ),
          wide: true,
        },
      ]}
    />
  );
}
