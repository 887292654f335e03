package testbed

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/exporter/otlpexporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

// way is how telemetry goes in and out.
type way struct {
	name        string
	protocol    string
	compression string
}

var ways = []way{
	{"OTLP-gRPC", "grpc", "none"},
	{"OTLP-gRPC-gzip", "grpc", "gzip"},
	{"OTLP-HTTP", "http/protobuf", "none"},
	{"OTLP-HTTP-gzip", "http/protobuf", "gzip"},
}

// sender is the Collector's own exporter of each signal, without queue and retry: what it returns is what was answered.
type sender struct {
	traces  exporter.Traces
	metrics exporter.Metrics
	logs    exporter.Logs
}

func newSender(t *testing.T, way way, to *subject) *sender {
	t.Helper()
	factory, settings := otlpexporter.NewFactory(), map[string]any{
		"endpoint": to.grpc,
		"tls":      map[string]any{"insecure": true},
	}
	if way.protocol != "grpc" {
		factory, settings = otlphttpexporter.NewFactory(), map[string]any{"endpoint": "http://" + to.http}
	}
	settings["compression"] = way.compression
	settings["sending_queue"] = map[string]any{"enabled": false}
	settings["retry_on_failure"] = map[string]any{"enabled": false}
	settings["timeout"] = patience.String()
	config := factory.CreateDefaultConfig()
	must(t, confmap.NewFromStringMap(settings).Unmarshal(config))
	create := exportertest.NewNopSettings(factory.Type())
	var sender sender
	var err error
	sender.traces, err = factory.CreateTraces(t.Context(), create, config)
	must(t, err)
	sender.metrics, err = factory.CreateMetrics(t.Context(), create, config)
	must(t, err)
	sender.logs, err = factory.CreateLogs(t.Context(), create, config)
	must(t, err)
	run(t, sender.traces, sender.metrics, sender.logs)
	return &sender
}

// backend is the Collector's own receiver. It keeps what it gets, or only counts.
type backend struct {
	address string
	counts  bool
	items   atomic.Int64
	lock    sync.Mutex
	traces  []ptrace.Traces
	metrics []pmetric.Metrics
}

func newBackend(t *testing.T, way way, counts bool) *backend {
	t.Helper()
	backend := &backend{address: freeAddress(t), counts: counts}
	protocol := "http"
	if way.protocol == "grpc" {
		protocol = "grpc"
	}
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	settings := map[string]any{"protocols": map[string]any{protocol: map[string]any{"endpoint": backend.address}}}
	must(t, confmap.NewFromStringMap(settings).Unmarshal(config))
	create := receivertest.NewNopSettings(factory.Type())
	traces, err := consumer.NewTraces(backend.takeTraces)
	must(t, err)
	metrics, err := consumer.NewMetrics(backend.takeMetrics)
	must(t, err)
	logs, err := consumer.NewLogs(backend.takeLogs)
	must(t, err)
	ofTraces, err := factory.CreateTraces(t.Context(), create, config, traces)
	must(t, err)
	ofMetrics, err := factory.CreateMetrics(t.Context(), create, config, metrics)
	must(t, err)
	ofLogs, err := factory.CreateLogs(t.Context(), create, config, logs)
	must(t, err)
	run(t, ofTraces, ofMetrics, ofLogs)
	return backend
}

func (b *backend) takeTraces(_ context.Context, traces ptrace.Traces) error {
	b.items.Add(int64(traces.SpanCount()))
	if !b.counts {
		b.lock.Lock()
		defer b.lock.Unlock()
		kept := ptrace.NewTraces()
		traces.CopyTo(kept)
		b.traces = append(b.traces, kept)
	}
	return nil
}

func (b *backend) takeMetrics(_ context.Context, metrics pmetric.Metrics) error {
	b.items.Add(int64(metrics.DataPointCount()))
	if !b.counts {
		b.lock.Lock()
		defer b.lock.Unlock()
		kept := pmetric.NewMetrics()
		metrics.CopyTo(kept)
		b.metrics = append(b.metrics, kept)
	}
	return nil
}

func (b *backend) takeLogs(_ context.Context, logs plog.Logs) error {
	b.items.Add(int64(logs.LogRecordCount()))
	return nil
}

// run starts components and stops them, last first, when the test is over.
func run(t *testing.T, components ...component.Component) {
	t.Helper()
	for _, one := range components {
		must(t, one.Start(t.Context(), componenttest.NewNopHost()))
		t.Cleanup(func() { _ = one.Shutdown(context.Background()) })
	}
}
