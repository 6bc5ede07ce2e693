{{- define "moonshot.checks" -}}
{{- range $name := list "server" "agent" "host" "python" -}}
{{- if not (index $.Values.image $name) -}}
{{- fail (printf "image.%s is needed: the image's full name" $name) -}}
{{- end -}}
{{- end -}}
{{- if not (has .Values.checkpoints.accessMode (list "ReadWriteOnce" "ReadWriteMany")) -}}
{{- fail (printf "checkpoints.accessMode is %s; choose ReadWriteOnce or ReadWriteMany" .Values.checkpoints.accessMode) -}}
{{- end -}}
{{- $n := int .Values.replicas -}}
{{- if or (lt $n 1) (gt $n 3) -}}
{{- fail (printf "replicas is %d; choose 1 to 3" $n) -}}
{{- end -}}
{{- if gt $n 1 -}}
{{- if not .Values.database.secret -}}
{{- fail "replicas is more than 1, which needs PostgreSQL: name a Secret with its URL in database.secret" -}}
{{- end -}}
{{- if ne .Values.data.accessMode "ReadWriteMany" -}}
{{- fail "replicas is more than 1, which needs data that all servers share: set data.accessMode to ReadWriteMany and a data.storageClass or data.claim that can do that" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "moonshot.labels" -}}
app.kubernetes.io/name: moonshot
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
