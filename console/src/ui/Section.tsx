import { Alert, Loader, Paper, Title } from "@mantine/core";
import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { ApiError } from "../api/client";
import { useLanguage } from "../i18n";

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

/** What went wrong, with every field that the server named. */
export function Failure({ error }: { error: unknown }) {
  const { t } = useLanguage();
  const fields = error instanceof ApiError ? (error.problem.errors ?? []) : [];
  return (
    <Alert color="red" title={t("common.error")} role="alert">
      {error instanceof Error ? error.message : String(error)}
      {fields.length > 0 && (
        <ul>
          {fields.map((field) => (
            <li key={field.field + field.message}>
              <code>{field.field}</code> {field.message}
              {field.line ? ` (${t("apply.line", { line: field.line, column: field.column ?? 1 })})` : ""}
            </li>
          ))}
        </ul>
      )}
    </Alert>
  );
}

/** Shows the data once it is there, and says so where it is not. */
export function Loaded<T>({
  query,
  children,
}: {
  query: UseQueryResult<T>;
  children: (data: T) => ReactNode;
}) {
  const { t } = useLanguage();
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.error) return <Failure error={query.error} />;
  return <Loader size="sm" aria-label={t("common.loading")} />;
}
