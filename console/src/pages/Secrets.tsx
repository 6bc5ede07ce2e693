import { Text } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { useLanguage } from "../i18n";
import { ListPage } from "../ui/ListPage";
import { Time } from "../ui/Time";
import { Words } from "../ui/Words";

const route = getRouteApi("/secrets");

/** Names of Secrets and of their entries. Their values never leave the server. */
export function Secrets() {
  const { t } = useLanguage();
  return (
    <ListPage
      kind="Secret"
      path="/secrets"
      title={t("secrets.title")}
      hint={
        <Text c="dimmed">
          <Words text={t("secrets.hint")} />
        </Text>
      }
      empty={<Words text={t("secrets.empty")} />}
      search={route.useSearch()}
      columns={[
        { title: t("common.name"), cell: (secret) => secret.metadata.name },
        { title: t("common.project"), cell: (secret) => secret.metadata.project, wide: true },
        { title: t("common.version"), cell: (secret) => secret.status?.version ?? "–" },
        { title: t("secrets.keys"), cell: (secret) => secret.status?.keys.join(", ") || "–" },
        { title: t("common.created"), cell: (secret) => <Time at={secret.metadata.createdAt} />, wide: true },
      ]}
    />
  );
}
