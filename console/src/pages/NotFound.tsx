import { Stack, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useLanguage } from "../i18n";
import { PageTitle } from "../ui/PageTitle";

/** A path that is no page. */
export function NotFound() {
  const { t } = useLanguage();
  return (
    <Stack>
      <PageTitle title={t("notFound.title")} />
      <Text>
        {t("notFound.hint")} <Link to="/">{t("nav.overview")}</Link>
      </Text>
    </Stack>
  );
}
