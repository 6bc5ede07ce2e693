import { Button, Checkbox, FileButton, Group, Stack, Text, Textarea } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useRef, useState } from "react";
import { ApiError, call, get, objectPath } from "../api/client";
import type { App, ApplyResult, Job } from "../api/types";
import { type Key, useLanguage } from "../i18n";
import { Cli } from "../ui/Cli";
import { Diff } from "../ui/Diff";
import { PageTitle } from "../ui/PageTitle";
import { Phase } from "../ui/Phase";
import { Failure, Loaded, Section } from "../ui/Section";
import { Words } from "../ui/Words";
import { manifest } from "../ui/yaml";

const route = getRouteApi("/apply");

/** The server takes no more. */
const MANIFEST_BYTES_MAX = 4 << 20;

const example = `apiVersion: moonshot/v1
kind: Job
metadata:
  name: hello
spec:
  command: [sh, -c, "echo hello from replica $MOONSHOT_INDEX"]
  groups:
    - name: worker
      replicas: 2
`;

async function submit(yaml: string, dryRun: boolean, replace: boolean): Promise<ApplyResult[]> {
  const response = await call(`/v1/apply?dryRun=${dryRun}&replace=${replace}`, {
    method: "POST",
    body: yaml,
    headers: { "Content-Type": "application/yaml" },
  });
  return ((await response.json()) as { results: ApplyResult[] }).results;
}

/** Writes a manifest, or changes the one of the object that the URL names. */
export function Apply() {
  const { kind, project, name } = route.useSearch();
  const object = useQuery({
    queryKey: ["manifest", kind, project, name],
    queryFn: () => get<Job | App>(objectPath(kind ?? "Job", project ?? "", name ?? "")),
    enabled: Boolean(kind && project && name),
    // It is being edited: nothing may change it meanwhile.
    staleTime: Number.POSITIVE_INFINITY,
    refetchOnMount: "always",
    gcTime: 0,
  });
  if (!kind || !name) return <Editor key="new" initial={example} />;
  return (
    <Loaded query={object}>
      {(data) => (
        <Editor key={data.metadata.uid} initial={manifest(data)} about={`${kind.toLowerCase()}/${name}`} />
      )}
    </Loaded>
  );
}

function Editor({ initial, about }: { initial: string; about?: string }) {
  const { t } = useLanguage();
  const [yaml, setYaml] = useState(initial);
  const [replace, setReplace] = useState(false);
  const [tooLarge, setTooLarge] = useState(false);
  const text = useRef<HTMLTextAreaElement>(null);
  const apply = useMutation({ mutationFn: (dryRun: boolean) => submit(yaml, dryRun, replace) });
  const open = async (file: File | null) => {
    if (!file) return;
    setTooLarge(file.size > MANIFEST_BYTES_MAX);
    if (file.size <= MANIFEST_BYTES_MAX) setYaml(await file.text());
  };
  // The first place that the server pointed at; the text may have been changed since.
  const line =
    apply.error instanceof ApiError ? apply.error.problem.errors?.find((e) => e.line)?.line : undefined;
  const goTo = (number: number) => {
    const lines = yaml.split("\n");
    const from = lines.slice(0, number - 1).reduce((sum, each) => sum + each.length + 1, 0);
    text.current?.focus();
    text.current?.setSelectionRange(from, from + (lines[number - 1]?.length ?? 0));
  };
  return (
    <Stack>
      <PageTitle title={about ? t("apply.edit", { object: about }) : t("apply.title")} />
      <Text c="dimmed">
        <Words text={t("apply.hint")} />
      </Text>
      <Textarea
        ref={text}
        label={t("apply.manifest")}
        value={yaml}
        onChange={(event) => setYaml(event.currentTarget.value)}
        autosize
        minRows={14}
        maxRows={40}
        styles={{ input: { fontFamily: "monospace", fontSize: 13 } }}
        spellCheck={false}
      />
      <Checkbox
        label={t("apply.replace")}
        checked={replace}
        onChange={(event) => setReplace(event.currentTarget.checked)}
      />
      <Group>
        <Button
          variant="default"
          loading={apply.isPending && apply.variables}
          onClick={() => apply.mutate(true)}
        >
          {t("apply.dryRun")}
        </Button>
        <Button loading={apply.isPending && !apply.variables} onClick={() => apply.mutate(false)}>
          {t("apply.apply")}
        </Button>
        <FileButton onChange={open} accept=".yaml,.yml,.json">
          {(props) => (
            <Button variant="subtle" {...props}>
              {t("apply.open")}
            </Button>
          )}
        </FileButton>
      </Group>
      {tooLarge && <Text c="red">{t("apply.tooLarge")}</Text>}
      {apply.error && (
        <Failure error={apply.error}>
          {line && (
            <Button size="xs" variant="light" color="red" mt="xs" onClick={() => goTo(line)}>
              {t("apply.goTo", { line })}
            </Button>
          )}
        </Failure>
      )}
      {apply.data && (
        <div aria-live="polite">
          <Section title={t(apply.variables ? "apply.dryRunResult" : "apply.result")}>
            <Stack gap="xs">
              {apply.data.map((result) => (
                <Result key={`${result.kind}/${result.project}/${result.name}`} result={result} />
              ))}
            </Stack>
          </Section>
        </div>
      )}
      <Cli command={`moonshot apply --dry-run${replace ? " --replace" : ""} -f FILE`} />
      <Cli command={`moonshot apply${replace ? " --replace" : ""} -f FILE`} />
    </Stack>
  );
}

function Result({ result }: { result: ApplyResult }) {
  const { t } = useLanguage();
  const { kind, project = "", name, diff = [], plan = [] } = result;
  const word = `${kind.toLowerCase()}/${name}`;
  const params = { project, name };
  return (
    <div>
      <Group gap="xs">
        {kind === "Job" && (
          <Link to="/projects/$project/jobs/$name" params={params}>
            {word}
          </Link>
        )}
        {kind === "App" && (
          <Link to="/projects/$project/apps/$name" params={params}>
            {word}
          </Link>
        )}
        {kind !== "Job" && kind !== "App" && <Text fw={600}>{word}</Text>}
        <Phase phase={t(`apply.action.${result.action}` as Key)} />
      </Group>
      {diff.length > 0 && (
        <>
          <Text size="sm">{t("apply.changes")}</Text>
          <Diff label={`${t("apply.changes")}: ${word}`} lines={diff} />
        </>
      )}
      {plan.length > 0 && (
        <>
          <Text size="sm">{t("apply.plan")}</Text>
          <Diff label={`${t("apply.plan")}: ${word}`} lines={plan} />
        </>
      )}
    </div>
  );
}
