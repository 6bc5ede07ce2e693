import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useLanguage } from "../i18n";

/** Leads to the page that edits an object's manifest. */
export function EditButton(search: { kind: "Job" | "App"; project: string; name: string }) {
  const { t } = useLanguage();
  return (
    <Button size="xs" variant="light" renderRoot={(props) => <Link to="/apply" search={search} {...props} />}>
      {t("common.edit")}
    </Button>
  );
}
