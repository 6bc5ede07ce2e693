import { Text } from "@mantine/core";
import type { Replica } from "../api/types";
import { useLanguage } from "../i18n";
import { bytes, toNumber } from "./amount";
import { DataTable } from "./DataTable";
import { Phase } from "./Phase";
import { Time } from "./Time";

/** The members of a Job or the instances of an App. */
export function ReplicaTable({
  label,
  empty,
  replicas,
}: {
  label: string;
  empty: string;
  replicas: Replica[];
}) {
  const { t } = useLanguage();
  return (
    <DataTable
      label={label}
      items={replicas}
      empty={empty}
      id={(replica) => `${replica.group}/${replica.index}/${replica.attempt}`}
      columns={[
        { title: t("common.name"), cell: (replica) => `${replica.group}/${replica.index}` },
        { title: t("job.attempt"), cell: (replica) => replica.attempt, wide: true },
        {
          title: t("common.phase"),
          cell: (replica) => <Phase phase={replica.ready ? "Ready" : replica.phase} />,
        },
        { title: t("common.node"), cell: (replica) => replica.node },
        { title: t("common.devices"), cell: (replica) => replica.devices?.join(", ") || "–", wide: true },
        { title: t("common.restarts"), cell: (replica) => replica.restarts ?? 0, wide: true },
        { title: t("job.exit"), cell: (replica) => replica.exitCode ?? "–", wide: true },
        {
          title: t("common.memory"),
          cell: (replica) => (replica.memoryPeak ? bytes(toNumber(replica.memoryPeak)) : "–"),
          wide: true,
        },
        { title: t("common.started"), cell: (replica) => <Time at={replica.startedAt} />, wide: true },
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
