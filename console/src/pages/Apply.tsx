import { Button, Code, Group, Stack, Text, Textarea, Title } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { call } from "../api/client";
import { type Key, useLanguage } from "../i18n";
import { Cli } from "../ui/Cli";
import { Phase } from "../ui/Phase";
import { Failure, Section } from "../ui/Section";

interface Result {
  kind: string;
  project?: string;
  name: string;
  action: string;
  diff?: string[];
  plan?: string[];
}

const example = `apiVersion: moonshot/v1
kind: Job
metadata:
  name: hello
  project: default
spec:
  command: [sh, -c, "echo hello"]
`;

async function submit(yaml: string, dryRun: boolean): Promise<Result[]> {
  const response = await call(`/v1/apply?dryRun=${dryRun}`, {
    method: "POST",
    body: yaml,
    headers: { "Content-Type": "application/yaml" },
  });
  return ((await response.json()) as { results: Result[] }).results;
}

export function Apply() {
  const { t } = useLanguage();
  const [yaml, setYaml] = useState(example);
  const apply = useMutation({ mutationFn: (dryRun: boolean) => submit(yaml, dryRun) });
  return (
    <Stack>
      <Title order={1} size="h3">
        {t("apply.title")}
      </Title>
      <Text c="dimmed">{t("apply.hint")}</Text>
      <Textarea
        aria-label="YAML"
        value={yaml}
        onChange={(event) => setYaml(event.currentTarget.value)}
        autosize
        minRows={14}
        maxRows={40}
        styles={{ input: { fontFamily: "monospace", fontSize: 13 } }}
        spellCheck={false}
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
      </Group>
      {apply.error && <Failure error={apply.error} />}
      {apply.data && (
        <Section title={t(apply.variables ? "apply.dryRun" : "apply.result")}>
          <Stack gap="xs">
            {apply.data.map((result) => (
              <div key={`${result.kind}/${result.project}/${result.name}`}>
                <Group gap="xs">
                  <Text fw={600}>{`${result.kind.toLowerCase()}/${result.name}`}</Text>
                  <Phase phase={t(`apply.action.${result.action}` as Key)} />
                </Group>
                {[...(result.diff ?? []), ...(result.plan ?? [])].length > 0 && (
                  <Code block>{[...(result.diff ?? []), ...(result.plan ?? [])].join("\n")}</Code>
                )}
              </div>
            ))}
          </Stack>
        </Section>
      )}
      <Cli command="moonshot apply --dry-run -f FILE" />
    </Stack>
  );
}
