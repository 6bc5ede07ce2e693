import { Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { list } from "../api/client";
import { keys } from "../api/live";
import type { Amount, Queue } from "../api/types";
import { useLanguage } from "../i18n";
import { amountText } from "../ui/amount";
import { Cli } from "../ui/Cli";
import { DataTable } from "../ui/DataTable";
import { PageTitle } from "../ui/PageTitle";
import { Loaded } from "../ui/Section";

/** Queues are few: one for each team. */
const QUEUES_MAX = 1_000;

/** One pool's quota of a queue. */
interface Row {
  queue: Queue;
  pool: string;
  isFirst: boolean;
}

function rows(queues: Queue[]): Row[] {
  return queues.flatMap((queue) => {
    const pools = new Set([
      ...Object.keys(queue.spec.quotas ?? {}),
      ...Object.keys(queue.status?.used ?? {}),
    ]);
    const names = pools.size > 0 ? [...pools].sort() : [""];
    return names.map((pool, index) => ({ queue, pool, isFirst: index === 0 }));
  });
}

export function Queues() {
  const { t } = useLanguage();
  const queues = useQuery({
    queryKey: keys.list("Queue", "all"),
    queryFn: () => list("Queue", { limit: QUEUES_MAX }),
  });
  const amount = (spec: Amount | undefined) => <Text size="sm">{amountText(spec)}</Text>;
  const quota = ({ queue, pool }: Row) => queue.spec.quotas?.[pool];
  return (
    <Stack>
      <PageTitle title={t("queues.title")} />
      <Text c="dimmed">{t("queues.hint")}</Text>
      <Loaded query={queues}>
        {({ items }) => (
          <DataTable
            label={t("queues.title")}
            items={rows(items)}
            empty={t("queues.empty")}
            id={({ queue, pool }) => `${queue.metadata.name}/${pool}`}
            columns={[
              { title: t("common.name"), cell: ({ queue, isFirst }) => (isFirst ? queue.metadata.name : "") },
              {
                title: t("queues.parent"),
                cell: ({ queue, isFirst }) => (isFirst ? (queue.spec.parent ?? "–") : ""),
                wide: true,
              },
              {
                title: t("queues.projects"),
                cell: ({ queue, isFirst }) => (isFirst ? queue.spec.projects?.join(", ") || "–" : ""),
                wide: true,
              },
              {
                title: t("overview.runningTasks"),
                cell: ({ queue, isFirst }) => (isFirst ? (queue.status?.running ?? 0) : ""),
              },
              {
                title: t("overview.waitingTasks"),
                cell: ({ queue, isFirst }) => (isFirst ? (queue.status?.waiting ?? 0) : ""),
              },
              { title: t("queues.pool"), cell: ({ pool }) => pool || "–", wide: true },
              { title: t("queues.used"), cell: ({ queue, pool }) => amount(queue.status?.used?.[pool]) },
              { title: t("queues.guaranteed"), cell: (row) => amount(quota(row)?.guaranteed), wide: true },
              { title: t("queues.limit"), cell: (row) => amount(quota(row)?.limit), wide: true },
            ]}
          />
        )}
      </Loaded>
      <Cli command="moonshot get queues -o wide" />
    </Stack>
  );
}
