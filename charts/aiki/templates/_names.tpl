{{- define "aiki.image" -}}
{{ .root.Values.images.registry }}/aiki-{{ .name }}:{{ .root.Values.images.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "aiki.selector" -}}
app.kubernetes.io/name: aiki-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "aiki.labels" -}}
{{ include "aiki.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "aiki.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "aiki.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "aiki.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "aiki.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The AikiServer as JSON, for the Job that applies it. */}}
{{- define "aiki.server" -}}
{{- $spec := merge (deepCopy .Values.server.spec) (dict "image" (include "aiki.image" (dict "root" . "name" "server")) "imagePullPolicy" .Values.images.pullPolicy) }}
{{- if and .Values.images.pullSecrets (not .Values.server.spec.imagePullSecrets) }}
{{- $secrets := list }}
{{- range .Values.images.pullSecrets }}{{- $secrets = append $secrets (dict "name" .) }}{{- end }}
{{- $_ := set $spec "imagePullSecrets" $secrets }}
{{- end }}
{{- dict "apiVersion" "aiki.dev/v1alpha1" "kind" "AikiServer" "metadata" (dict "name" .Values.server.name "namespace" (include "aiki.serverNamespace" .)) "spec" $spec | toJson }}
{{- end }}

{{/* Where the AikiServer of the release is. */}}
{{- define "aiki.serverNamespace" -}}
{{ .Values.server.namespace | default .Release.Namespace }}
{{- end }}

{{/* The namespaces that the operator serves, as JSON; none where it serves the whole cluster. What cannot work is refused here. */}}
{{- define "aiki.namespaces" -}}
{{- $operator := .Values.operator }}
{{- $home := include "aiki.serverNamespace" . }}
{{- if and $operator.clusterWide $operator.namespaces }}
{{- fail "operator.clusterWide serves every namespace: leave operator.namespaces empty, or set operator.clusterWide=false" }}
{{- end }}
{{- if and .Values.server.create $operator.namespaces (not (has $home $operator.namespaces)) }}
{{- fail (printf "operator.namespaces is %s, and the AikiServer would be in %s, which this operator would not serve: add %s to operator.namespaces, set server.namespace to one of them, or set server.create=false" (join ", " $operator.namespaces) $home $home) }}
{{- end }}
{{- if $operator.clusterWide }}[]{{ else }}{{ $operator.namespaces | default (list $home) | toJson }}{{ end }}
{{- end }}
