{{- define "meltproof.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The config's text, refused where no cluster could serve it. */}}
{{- define "meltproof.config" -}}
{{- $file := printf "configs/%s.yaml" .Values.config.file -}}
{{- $text := .Values.config.text | default (.Files.Get $file) -}}
{{- if not $text }}{{ fail (printf "config.file: there is no %s in the chart" $file) }}{{ end -}}
{{- $config := fromYaml $text -}}
{{- if hasKey $config "Error" }}{{ fail (printf "config: %s" $config.Error) }}{{ end -}}
{{- if ne (dig "http_options" "host" "" $config) "0.0.0.0" -}}
{{- fail "config: http_options.host must be 0.0.0.0, or no pod can be reached" -}}
{{- end -}}
{{- if ne (int (dig "http_options" "port" 8000 $config)) 8000 -}}
{{- fail "config: http_options.port must be 8000, which services, probes and policies name" -}}
{{- end -}}
{{- range $application := $config.applications -}}
{{- range $deployment := $application.deployments -}}
{{- $pool := dig "ray_actor_options" "label_selector" "pool" "" $deployment -}}
{{- if and $pool (not (hasKey $.Values.workers $pool)) -}}
{{- fail (printf "config: %s of %s wants pool %s, which is not among workers: %s" $deployment.name $application.name $pool (keys $.Values.workers | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- trim $text -}}
{{- end }}

{{/* `app` alone would do; KubeRay writes app.kubernetes.io/name of its own on pods. */}}
{{- define "meltproof.labels" -}}
app: {{ .Release.Name }}
{{- end }}

{{- define "meltproof.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "meltproof.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "meltproof.ports" -}}
- {name: serve, containerPort: 8000}
- {name: metrics, containerPort: 8080}
- {name: meltproof, containerPort: 9464}
{{- end }}

{{/* ledger: whether the pod's processes may read the database. */}}
{{- define "meltproof.env" -}}
- {name: HOME, value: /tmp}
- {name: RAY_SERVE_ENABLE_HA_PROXY, value: "1"}
- {name: RAY_SERVE_THROUGHPUT_OPTIMIZED, value: "1"}
# Gateways decide themselves whose X-Forwarded-For they believe; to uvicorn no peer has this name.
- {name: FORWARDED_ALLOW_IPS, value: none}
# It bounds what clients send before their request is read.
- {name: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH, value: "serve_app.access.connections:use_for_every_server"}
{{- if and .ledger .Values.secrets.ledger }}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .Values.secrets.ledger }}, key: password}
{{- end }}
{{- end }}

{{/* Ray's agents and dashboard answer these two paths without a token. */}}
{{- define "meltproof.livenessProbe" -}}
httpGet: {path: /api/local_raylet_healthz, port: 52365}
initialDelaySeconds: 30
periodSeconds: 5
timeoutSeconds: 5
failureThreshold: 24
{{- end }}

{{- define "meltproof.volumeMounts" -}}
- {name: scratch, mountPath: /tmp}
{{- with .Values.models.claim }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- if .ledger }}
{{- with .Values.blobs.claim }}
- {name: blobs, mountPath: /var/lib/meltproof}
{{- end }}
{{- range $name := list "signing" "provenance" "s3" }}
{{- if get $.Values.secrets $name }}
- {name: {{ $name }}, mountPath: /etc/meltproof/{{ $name }}, readOnly: true}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "meltproof.volumes" -}}
- name: scratch
  emptyDir: {}
{{- with .Values.models.claim }}
- name: models
  persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- if .ledger }}
{{- with .Values.blobs.claim }}
- name: blobs
  persistentVolumeClaim: {claimName: {{ . }}}
{{- end }}
{{- range $name := list "signing" "provenance" "s3" }}
{{- with get $.Values.secrets $name }}
- name: {{ $name }}
  secret: {secretName: {{ . }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
