import { createContext, type ReactNode, useContext, useMemo, useState } from "react";
import { en } from "./en";
import { zh } from "./zh";

export type Language = "en" | "zh";
export type Key = keyof typeof en;
export type Translate = (key: Key, values?: Record<string, string | number>) => string;

const catalogues: Record<Language, Record<Key, string>> = { en, zh };
const STORED = "moonshot.language";

/** Fills `{name}` in a string of the catalogue. */
export function translate(
  language: Language,
  key: Key,
  values: Record<string, string | number> = {},
): string {
  return catalogues[language][key].replace(/\{(\w+)\}/g, (whole, name: string) =>
    String(values[name] ?? whole),
  );
}

function initial(): Language {
  const stored = localStorage.getItem(STORED);
  if (stored === "en" || stored === "zh") return stored;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

const Context = createContext<{
  language: Language;
  setLanguage: (language: Language) => void;
  t: Translate;
} | null>(null);

export function LanguageProvider({ children }: { children: ReactNode }) {
  const [language, set] = useState<Language>(initial);
  const value = useMemo(() => {
    document.documentElement.lang = language;
    const setLanguage = (next: Language) => {
      localStorage.setItem(STORED, next);
      set(next);
    };
    const t: Translate = (key, values) => translate(language, key, values);
    return { language, setLanguage, t };
  }, [language]);
  return <Context.Provider value={value}>{children}</Context.Provider>;
}

/** The present language and its strings. */
export function useLanguage() {
  const value = useContext(Context);
  if (!value) throw new Error("useLanguage needs a LanguageProvider");
  return value;
}
