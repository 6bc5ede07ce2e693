import {
  Alert,
  Button,
  Center,
  Group,
  Paper,
  PasswordInput,
  SegmentedControl,
  Stack,
  Text,
  Title,
} from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useEffect, useState } from "react";
import { ApiError, send } from "../api/client";
import { type Language, useLanguage } from "../i18n";
import { Words } from "../ui/Words";

/** Exchanges a token for a session cookie that scripts cannot read. */
export function Login() {
  const { t, language, setLanguage } = useLanguage();
  const client = useQueryClient();
  const [token, setToken] = useState("");
  const login = useMutation({
    mutationFn: () => send("POST", "/v1/login", { token: token.trim() }),
    onSuccess: () => client.resetQueries(),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    login.mutate();
  };
  useEffect(() => {
    document.title = t("login.title");
  }, [t]);
  const isRefused = login.error instanceof ApiError;
  return (
    <Center mih="100vh" p="md" component="main">
      <Paper withBorder p="xl" w={420} component="form" onSubmit={submit}>
        <Stack>
          <Group justify="space-between" wrap="nowrap">
            <Title order={1} size="h3">
              {t("login.title")}
            </Title>
            <SegmentedControl
              size="xs"
              aria-label={t("nav.language")}
              value={language}
              onChange={(value) => setLanguage(value as Language)}
              data={[
                { value: "en", label: "EN" },
                { value: "zh", label: "中文" },
              ]}
            />
          </Group>
          <PasswordInput
            label={t("login.token")}
            value={token}
            onChange={(event) => setToken(event.currentTarget.value)}
            autoComplete="current-password"
            autoFocus
            required
          />
          <Text size="sm" c="dimmed">
            <Words text={t("login.hint")} />
          </Text>
          {login.isError && (
            <Alert color="red" role="alert">
              {isRefused ? <Words text={t("login.failed")} /> : t("common.away")}
            </Alert>
          )}
          <Button type="submit" loading={login.isPending}>
            {t("login.submit")}
          </Button>
        </Stack>
      </Paper>
    </Center>
  );
}
