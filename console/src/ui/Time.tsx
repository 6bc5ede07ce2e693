import { useLanguage } from "../i18n";

/** A point in time in the reader's zone; the exact instant is in the title. */
export function Time({ at }: { at: string | null | undefined }) {
  const { language } = useLanguage();
  if (!at) return <>–</>;
  const text = new Date(at).toLocaleString(language === "zh" ? "zh-CN" : "en-GB", {
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
  return (
    <time dateTime={at} title={at} style={{ whiteSpace: "nowrap" }}>
      {text}
    </time>
  );
}
