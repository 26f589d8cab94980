{{- define "rocketmq-cluster.name" -}}
{{- default .Release.Name .Values.nameOverride -}}
{{- end -}}

{{- define "rocketmq-cluster.metadata" -}}
namespace: {{ .Release.Namespace }}
labels:
  app.kubernetes.io/name: rocketmq-cluster
  app.kubernetes.io/instance: {{ .Release.Name }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
  {{- with .Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
