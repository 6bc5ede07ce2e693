import { Text } from "@mantine/core";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useLanguage } from "../i18n";
import { ListPage } from "../ui/ListPage";
import { Phase } from "../ui/Phase";
import { Time } from "../ui/Time";
import { Words } from "../ui/Words";

const phases = [
  "Queued",
  "Starting",
  "Running",
  "Suspending",
  "Suspended",
  "Cancelling",
  "Succeeded",
  "Failed",
  "Cancelled",
];
const route = getRouteApi("/jobs");

export function Jobs() {
  const { t } = useLanguage();
  return (
    <ListPage
      kind="Job"
      path="/jobs"
      title={t("jobs.title")}
      empty={<Words text={t("jobs.empty")} />}
      phases={phases}
      search={route.useSearch()}
      columns={[
        {
          title: t("common.name"),
          cell: ({ metadata: { project = "", name = "" } }) => (
            <Link to="/projects/$project/jobs/$name" params={{ project, name }}>
              {name}
            </Link>
          ),
        },
        { title: t("common.project"), cell: (job) => job.metadata.project, wide: true },
        { title: t("common.phase"), cell: (job) => <Phase phase={job.status?.phase} /> },
        { title: t("jobs.attempts"), cell: (job) => job.status?.attempts ?? 0, wide: true },
        { title: t("common.created"), cell: (job) => <Time at={job.metadata.createdAt} /> },
        {
          title: t("common.message"),
          cell: (job) => (
            <Text size="sm" lineClamp={2}>
              {job.status?.message}
            </Text>
          ),
          wide: true,
        },
      ]}
    />
  );
}
