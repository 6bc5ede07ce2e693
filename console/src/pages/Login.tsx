import { Alert, Button, Center, Paper, PasswordInput, Stack, Text, Title } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { send } from "../api/client";
import { useLanguage } from "../i18n";

/** Exchanges a token for a session cookie that scripts cannot read. */
export function Login() {
  const { t } = useLanguage();
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
  return (
    <Center mih="100vh" p="md">
      <Paper withBorder p="xl" w={420} component="form" onSubmit={submit}>
        <Stack>
          <Title order={1} size="h3">
            {t("login.title")}
          </Title>
          <PasswordInput
            label={t("login.token")}
            value={token}
            onChange={(event) => setToken(event.currentTarget.value)}
            autoComplete="current-password"
            data-autofocus
            required
          />
          <Text size="sm" c="dimmed">
            {t("login.hint")}
          </Text>
          {login.isError && (
            <Alert color="red" role="alert">
              {t("login.failed")} {login.error.message}
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
