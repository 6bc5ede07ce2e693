import { Button, Group, Select, Stack, TextInput, Title } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { list } from "../api/client";
import { keys } from "../api/live";
import type { KindName, Kinds } from "../api/types";
import { useLanguage } from "../i18n";
import type { ListSearch } from "../routes";
import { Cli } from "./Cli";
import { type Column, DataTable } from "./DataTable";
import { Failure } from "./Section";

/** A list of one kind: filters in the URL, pages on demand. */
export function ListPage<K extends "Job" | "App">(props: {
  kind: K;
  path: "/jobs" | "/apps";
  title: string;
  empty: string;
  phases: string[];
  search: ListSearch;
  columns: Column<Kinds[K]>[];
}) {
  const { t } = useLanguage();
  const { project, phase, labels } = props.search;
  const navigate = useNavigate();
  const [draft, setDraft] = useState(labels ?? "");
  const pages = useInfiniteQuery({
    // Not under the live lists: those hold one page each.
    queryKey: [...keys.list(props.kind as KindName).slice(0, 1), "pages", project, phase, labels],
    queryFn: ({ pageParam }) =>
      list(props.kind, { project, phase, labelSelector: labels, continue: pageParam || undefined }),
    initialPageParam: "",
    getNextPageParam: (page) => (page.hasMore ? page.continue : undefined),
    refetchInterval: 3_000,
  });
  const filter = (change: Partial<ListSearch>) =>
    void navigate({ to: props.path, search: { ...props.search, ...change }, replace: true });
  const items = pages.data?.pages.flatMap((page) => page.items) ?? [];
  const command = [
    `moonshot get ${props.path.slice(1)}`,
    project ? `--project ${project}` : "-A",
    phase && `--phase ${phase}`,
    labels && `-l '${labels}'`,
  ];
  return (
    <Stack>
      <Title order={1} size="h3">
        {props.title}
      </Title>
      <Group align="end">
        <Select
          label={t("common.filter")}
          data={[{ value: "", label: t("common.all") }, ...props.phases]}
          value={phase ?? ""}
          onChange={(value) => filter({ phase: value || undefined })}
          w={180}
        />
        <form
          onSubmit={(event) => {
            event.preventDefault();
            filter({ labels: draft || undefined });
          }}
        >
          <TextInput
            label={t("common.labels")}
            placeholder="team=risk"
            value={draft}
            onChange={(event) => setDraft(event.currentTarget.value)}
            onBlur={() => filter({ labels: draft || undefined })}
          />
        </form>
      </Group>
      {pages.error && <Failure error={pages.error} />}
      {pages.data && (
        <DataTable
          label={props.title}
          columns={props.columns}
          items={items}
          id={(item) => item.metadata.uid ?? ""}
          empty={props.empty}
        />
      )}
      {pages.hasNextPage && (
        <Button variant="default" onClick={() => pages.fetchNextPage()} loading={pages.isFetchingNextPage}>
          {t("common.more")}
        </Button>
      )}
      <Cli command={command.filter(Boolean).join(" ")} />
    </Stack>
  );
}
