package testbed

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-telemetry/opentelemetry-collector-contrib/internal/coreinternal/goldendataset"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

const golden = "github.com/open-telemetry/opentelemetry-collector-contrib/internal/coreinternal"

// TestGoldenTraces sends every pair of the testbed's correctness tests for traces: what comes out is what went in, to the byte.
func TestGoldenTraces(t *testing.T) {
	set, err := goldendataset.GenerateTraces(pairs(t, "traces"), pairs(t, "spans"))
	must(t, err)
	if len(set) < 20 {
		t.Fatalf("only %d traces were generated", len(set))
	}
	marshaler := ptrace.ProtoMarshaler{}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			backend := newBackend(t, way, false)
			sender := newSender(t, way, start(t, backend.address, way.protocol))
			for number, traces := range set {
				expected, err := marshaler.MarshalTraces(traces)
				must(t, err)
				backend.lock.Lock()
				before := len(backend.traces)
				backend.lock.Unlock()
				if err := sender.traces.ConsumeTraces(t.Context(), traces); err != nil {
					t.Errorf("traces %d were refused: %v", number, err)
					continue
				}
				// It is acknowledged when the backend has it.
				backend.lock.Lock()
				taken := backend.traces[before:]
				backend.lock.Unlock()
				if traces.SpanCount() == 0 && len(taken) == 0 {
					continue
				}
				if len(taken) != 1 {
					t.Fatalf("traces %d came %d times", number, len(taken))
				}
				found, err := marshaler.MarshalTraces(taken[0])
				must(t, err)
				if !bytes.Equal(found, expected) {
					t.Errorf("traces %d came out differently", number)
				}
			}
		})
	}
}

// TestGoldenMetrics does the same with the pairs for metrics.
func TestGoldenMetrics(t *testing.T) {
	set, err := goldendataset.GenerateMetrics(pairs(t, "metrics"))
	must(t, err)
	if len(set) < 20 {
		t.Fatalf("only %d metrics were generated", len(set))
	}
	marshaler := pmetric.ProtoMarshaler{}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			backend := newBackend(t, way, false)
			sender := newSender(t, way, start(t, backend.address, way.protocol))
			for number, metrics := range set {
				expected, err := marshaler.MarshalMetrics(metrics)
				must(t, err)
				backend.lock.Lock()
				before := len(backend.metrics)
				backend.lock.Unlock()
				if err := sender.metrics.ConsumeMetrics(t.Context(), metrics); err != nil {
					t.Errorf("metrics %d were refused: %v", number, err)
					continue
				}
				backend.lock.Lock()
				taken := backend.metrics[before:]
				backend.lock.Unlock()
				if len(taken) != 1 {
					t.Fatalf("metrics %d came %d times", number, len(taken))
				}
				found, err := marshaler.MarshalMetrics(taken[0])
				must(t, err)
				if !bytes.Equal(found, expected) {
					t.Errorf("metrics %d came out differently", number)
				}
			}
		})
	}
}

// pairs is a file of the golden data set, in Go's module cache.
func pairs(t *testing.T, of string) string {
	t.Helper()
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", golden).Output()
	must(t, err)
	return filepath.Join(strings.TrimSpace(string(folder)), "goldendataset", "testdata", "generated_pict_pairs_"+of+".txt")
}
