import { Alert, Loader, Paper, Text, Title } from "@mantine/core";
import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { ApiError } from "../api/client";
import { type Key, useLanguage } from "../i18n";
import { Words } from "./Words";

/** A titled part of a page. */
export function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Paper component="section" withBorder p="md" aria-label={title}>
      <Title order={2} size="h4" mb="sm">
        {title}
      </Title>
      {children}
    </Paper>
  );
}

/** What the reader can do about a refusal, by its code. */
const remedies: Partial<Record<string, Key>> = {
  not_found: "remedy.notFound",
  denied: "remedy.denied",
  unauthenticated: "remedy.unauthenticated",
  conflict: "remedy.conflict",
  invalid: "remedy.invalid",
  unavailable: "remedy.unavailable",
  timeout: "remedy.unavailable",
  internal: "remedy.internal",
};

/** What went wrong, with every field that the server named, and what to do about it. */
export function Failure({ error, children }: { error: unknown; children?: ReactNode }) {
  const { t } = useLanguage();
  const problem = error instanceof ApiError ? error.problem : undefined;
  const fields = problem?.errors ?? [];
  // `fetch` throws a TypeError where nobody answers.
  const isAway = error instanceof TypeError;
  const remedy = isAway ? "remedy.unavailable" : problem && remedies[problem.code];
  const words = error instanceof Error && !isAway ? error.message : t("common.away");
  return (
    <Alert color="red" title={t("common.error")} role="alert">
      {/* The sentence sums up the fields. */}
      {fields.length === 0 && (
        <Text size="sm">
          <Words text={words} />
        </Text>
      )}
      {fields.length > 0 && (
        <ul>
          {fields.map((field) => (
            <li key={field.field + field.message}>
              <code>{field.field}</code> <Words text={field.message} />
              {field.line ? ` (${t("apply.line", { line: field.line, column: field.column ?? 1 })})` : ""}
            </li>
          ))}
        </ul>
      )}
      {remedy && (
        <Text size="sm" mt={4}>
          <Words text={t(remedy, { id: problem?.requestId ?? "" })} />
        </Text>
      )}
      {children}
    </Alert>
  );
}

/** Something is on its way. */
export function Loading() {
  const { t } = useLanguage();
  return <Loader size="sm" role="status" aria-label={t("common.loading")} />;
}

/** Shows the data once it is there, and says so where it is not. */
export function Loaded<T>({
  query,
  children,
}: {
  query: UseQueryResult<T>;
  children: (data: T) => ReactNode;
}) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.error) return <Failure error={query.error} />;
  return <Loading />;
}
