package testbed

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// The load of the testbed's scenarios of 10,000 items a second, in its batches.
const (
	itemsPerSecond = 10_000
	itemsPerBatch  = 100
	workers        = 8
)

// limits is what the testbed allows the Collector over OTLP: percent of a core on average, MiB at most.
type limits struct {
	cpuPercent  float64
	residentMiB int
}

func TestTrace10kSPS(t *testing.T) {
	scenario(t, limits{20, 100}, func(ctx context.Context, to *sender, sequence int64) error {
		return to.traces.ConsumeTraces(ctx, traces(sequence))
	})
}

func TestMetric10kDPS(t *testing.T) {
	scenario(t, limits{60, 100}, func(ctx context.Context, to *sender, sequence int64) error {
		return to.metrics.ConsumeMetrics(ctx, metrics(sequence))
	})
}

func TestLog10kDPS(t *testing.T) {
	scenario(t, limits{30, 99}, func(ctx context.Context, to *sender, sequence int64) error {
		return to.logs.ConsumeLogs(ctx, logs(sequence))
	})
}

// duration is how long each scenario sends: short, for there are twelve; the testbed's own are 15 s.
func duration(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("TESTBED_DURATION")
	if text == "" {
		return 5 * time.Second
	}
	lasting, err := time.ParseDuration(text)
	must(t, err)
	return lasting
}

func scenario(t *testing.T, allowed limits, send func(context.Context, *sender, int64) error) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			backend := newBackend(t, way, true)
			subject := start(t, backend.address, way.protocol)
			sender := newSender(t, way, subject)
			began, before := time.Now(), subject.cpu()
			sent := load(t, duration(t), func(ctx context.Context, sequence int64) error {
				return send(ctx, sender, sequence)
			})
			cpu := 100 * (subject.cpu() - before).Seconds() / time.Since(began).Seconds()
			resident := subject.residentMiB()
			t.Logf("%d items in %.1f s, %.1f %% of a core, %d MiB at most", sent, time.Since(began).Seconds(), cpu, resident)
			if received := backend.items.Load(); received != sent {
				t.Errorf("%d items were acknowledged, and the backend took %d", sent, received)
			}
			if resident > allowed.residentMiB {
				t.Errorf("%d MiB were resident, of %d", resident, allowed.residentMiB)
			}
			// An unoptimised build takes ten times as long; its time says nothing.
			if isOptimised() && cpu > allowed.cpuPercent {
				t.Errorf("%.1f %% of a core were used, of %.0f", cpu, allowed.cpuPercent)
			}
		})
	}
}

func isOptimised() bool {
	program := os.Getenv("HOMEOSTAT")
	return program != "" && !strings.Contains(program, "/debug/")
}

// load sends the batches that are due, whatever is answered, and says how many items were acknowledged: all of them, or it fails.
func load(t *testing.T, lasting time.Duration, send func(context.Context, int64) error) int64 {
	t.Helper()
	batches := int64(lasting.Seconds() * itemsPerSecond / itemsPerBatch)
	began := time.Now()
	var next, taken atomic.Int64
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for sequence := next.Add(1) - 1; sequence < batches; sequence = next.Add(1) - 1 {
				due := began.Add(time.Duration(sequence) * time.Second * itemsPerBatch / itemsPerSecond)
				time.Sleep(time.Until(due))
				if err := send(t.Context(), sequence); err != nil {
					t.Errorf("batch %d: %v", sequence, err)
					return
				}
				taken.Add(itemsPerBatch)
			}
		})
	}
	group.Wait()
	return taken.Load()
}

// traces is one batch of spans, numbered as the testbed numbers its own.
func traces(sequence int64) ptrace.Traces {
	traces := ptrace.NewTraces()
	resource := traces.ResourceSpans().AppendEmpty()
	resource.Resource().Attributes().PutStr("service.name", "load-generator")
	spans := resource.ScopeSpans().AppendEmpty().Spans()
	now := time.Now()
	for item := range itemsPerBatch {
		number := uint64(sequence)*itemsPerBatch + uint64(item) + 1
		span := spans.AppendEmpty()
		var trace [16]byte
		binary.BigEndian.PutUint64(trace[8:], number)
		span.SetTraceID(trace)
		var id [8]byte
		binary.BigEndian.PutUint64(id[:], number)
		span.SetSpanID(id)
		span.SetName("load-generator-span")
		span.SetKind(ptrace.SpanKindClient)
		span.SetStartTimestamp(pcommon.NewTimestampFromTime(now.Add(-time.Millisecond)))
		span.SetEndTimestamp(pcommon.NewTimestampFromTime(now))
		span.Attributes().PutInt("load_generator.span_seq_num", int64(number))
		span.Attributes().PutInt("load_generator.trace_seq_num", sequence)
	}
	return traces
}

// metrics is one batch of gauge points.
func metrics(sequence int64) pmetric.Metrics {
	metrics := pmetric.NewMetrics()
	resource := metrics.ResourceMetrics().AppendEmpty()
	resource.Resource().Attributes().PutStr("service.name", "load-generator")
	all := resource.ScopeMetrics().AppendEmpty().Metrics()
	now := pcommon.NewTimestampFromTime(time.Now())
	for item := range itemsPerBatch {
		metric := all.AppendEmpty()
		metric.SetName(fmt.Sprintf("load_generator_%d", item))
		metric.SetUnit("1")
		point := metric.SetEmptyGauge().DataPoints().AppendEmpty()
		point.SetTimestamp(now)
		point.SetIntValue(sequence*itemsPerBatch + int64(item))
		point.Attributes().PutStr("item_index", fmt.Sprintf("item_%d", item))
		point.Attributes().PutStr("batch_index", fmt.Sprintf("batch_%d", sequence))
	}
	return metrics
}

// logs is one batch of records.
func logs(sequence int64) plog.Logs {
	logs := plog.NewLogs()
	resource := logs.ResourceLogs().AppendEmpty()
	resource.Resource().Attributes().PutStr("service.name", "load-generator")
	records := resource.ScopeLogs().AppendEmpty().LogRecords()
	now := pcommon.NewTimestampFromTime(time.Now())
	for item := range itemsPerBatch {
		record := records.AppendEmpty()
		record.SetTimestamp(now)
		record.SetSeverityNumber(plog.SeverityNumberInfo3)
		record.SetSeverityText("INFO3")
		record.Body().SetStr(fmt.Sprintf("Load Generator Counter #%d", sequence*itemsPerBatch+int64(item)))
		record.Attributes().PutStr("a", "test")
		record.Attributes().PutInt("c", sequence)
		record.Attributes().PutBool("d", true)
	}
	return logs
}
