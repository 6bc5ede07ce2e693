import { Button, Group, NativeSelect, Stack, Text, TextInput } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { list } from "../api/client";
import { keys } from "../api/live";
import type { Kinds } from "../api/types";
import { useLanguage } from "../i18n";
import type { ListSearch } from "../routes";
import { Cli } from "./Cli";
import { type Column, DataTable } from "./DataTable";
import { PageTitle } from "./PageTitle";
import { usePhaseWord } from "./Phase";
import { Failure, Loading } from "./Section";

/** Pages of a list that are kept on the page; all of them are asked for again when something new comes. */
const PAGES_MAX = 20;

export type ListPath = "/jobs" | "/apps" | "/models" | "/environments" | "/secrets";

/** A list of one kind: filters in the URL, pages on demand. */
export function ListPage<K extends "Job" | "App" | "Model" | "Environment" | "Secret">(props: {
  kind: K;
  path: ListPath;
  title: string;
  /** What to do where there is nothing. */
  empty: ReactNode;
  /** Above the list. */
  hint?: ReactNode;
  phases?: string[];
  search: ListSearch;
  columns: Column<Kinds[K]>[];
}) {
  const { t } = useLanguage();
  const word = usePhaseWord();
  const { project, phase, labels } = props.search;
  const navigate = useNavigate();
  const pages = useInfiniteQuery({
    queryKey: keys.pages(props.kind, project, phase, labels),
    queryFn: ({ pageParam }) =>
      list(props.kind, { project, phase, labelSelector: labels, continue: pageParam || undefined }),
    initialPageParam: "",
    getNextPageParam: (page) => (page.hasMore ? page.continue : undefined),
  });
  const filter = (change: Partial<ListSearch>) => {
    void navigate({ to: props.path, search: { ...props.search, ...change } });
  };
  const items = pages.data?.pages.flatMap((page) => page.items) ?? [];
  const isFull = (pages.data?.pages.length ?? 0) >= PAGES_MAX;
  const isFiltered = Boolean(project || phase || labels);
  const command = [
    `moonshot get ${props.path.slice(1)}`,
    project ? `--project ${project}` : "-A",
    phase && `--phase ${phase}`,
    labels && `-l '${labels}'`,
  ];
  return (
    <Stack>
      <PageTitle title={props.title} />
      {props.hint}
      <Group align="end" role="search">
        {props.phases && (
          <NativeSelect
            label={t("common.filter")}
            data={[
              { value: "", label: t("common.all") },
              ...props.phases.map((value) => ({ value, label: word(value) })),
            ]}
            value={phase ?? ""}
            onChange={(event) => filter({ phase: event.currentTarget.value || undefined })}
          />
        )}
        <Filter
          label={t("common.project")}
          hint={t("nav.allProjects")}
          value={project}
          set={(value) => filter({ project: value })}
        />
        <Filter
          label={t("common.labels")}
          hint="team=risk,tier!=test"
          value={labels}
          set={(value) => filter({ labels: value })}
        />
        {isFiltered && (
          <Button
            variant="subtle"
            onClick={() => filter({ project: undefined, phase: undefined, labels: undefined })}
          >
            {t("common.clear")}
          </Button>
        )}
      </Group>
      {pages.error && <Failure error={pages.error} />}
      {pages.isPending && <Loading />}
      {pages.data && (
        <DataTable
          label={props.title}
          columns={props.columns}
          items={items}
          id={(item) => item.metadata.uid ?? ""}
          empty={isFiltered ? t("common.noMatch") : props.empty}
        />
      )}
      {pages.hasNextPage && !isFull && (
        <Button variant="default" onClick={() => pages.fetchNextPage()} loading={pages.isFetchingNextPage}>
          {t("common.more")}
        </Button>
      )}
      {pages.hasNextPage && isFull && <Text c="dimmed">{t("common.tooMany", { count: items.length })}</Text>}
      <Cli command={command.filter(Boolean).join(" ")} />
    </Stack>
  );
}

/** A text that filters once it is finished: by Enter or by leaving it. */
function Filter(props: {
  label: string;
  hint: string;
  value: string | undefined;
  set: (value: string | undefined) => void;
}) {
  const [draft, setDraft] = useState(props.value ?? "");
  const [from, setFrom] = useState(props.value);
  // The URL may change by other ways, such as the back button.
  if (from !== props.value) {
    setFrom(props.value);
    setDraft(props.value ?? "");
  }
  const done = () => {
    const value = draft.trim() || undefined;
    if (value !== props.value) props.set(value);
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        done();
      }}
    >
      <TextInput
        label={props.label}
        placeholder={props.hint}
        value={draft}
        onChange={(event) => setDraft(event.currentTarget.value)}
        onBlur={done}
      />
    </form>
  );
}
