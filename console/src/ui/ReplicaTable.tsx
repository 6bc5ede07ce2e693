import { Text } from "@mantine/core";
import type { Replica } from "../api/types";
import { useLanguage } from "../i18n";
import { DataTable } from "./DataTable";
import { Phase } from "./Phase";
import { Time } from "./Time";

/** The members of a Job or the instances of an App. */
export function ReplicaTable({ label, replicas }: { label: string; replicas: Replica[] }) {
  const { t } = useLanguage();
  return (
    <DataTable
      label={label}
      items={replicas}
      id={(replica) => `${replica.group}/${replica.index}/${replica.attempt}`}
      columns={[
        { title: t("common.name"), cell: (replica) => `${replica.group}/${replica.index}` },
        { title: t("jobs.attempts"), cell: (replica) => replica.attempt },
        {
          title: t("common.phase"),
          cell: (replica) => <Phase phase={replica.ready ? "Ready" : replica.phase} />,
        },
        { title: t("common.node"), cell: (replica) => replica.node },
        { title: t("common.restarts"), cell: (replica) => replica.restarts ?? 0 },
        { title: t("job.exit"), cell: (replica) => replica.exitCode ?? "–" },
        { title: t("common.started"), cell: (replica) => <Time at={replica.startedAt} /> },
        {
          title: t("common.message"),
          cell: (replica) => (
            <Text size="sm" style={{ overflowWrap: "anywhere" }}>
              {replica.message}
            </Text>
          ),
        },
      ]}
    />
  );
}
