// Package testbed drives homeostat as the contrib testbed drives the Collector: README.md says what of it is its own.
package testbed

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = 90 * time.Second

// subject is a running homeostat.
type subject struct {
	t       *testing.T
	command *exec.Cmd
	output  *os.File
	grpc    string
	http    string
}

const configuration = `
receivers:
  otlp:
    protocols:
      grpc: { endpoint: 127.0.0.1:0 }
      http: { endpoint: 127.0.0.1:0 }
processors:
  tag: {}
  homeostasis: { model: %s }
exporters:
  otlp/sink: { endpoint: "http://%s", protocol: %s }
service:
  storage: { directory: data }
  telemetry: { metrics: { endpoint: 127.0.0.1:0 } }
  pipelines:
    feedback:
      receivers: [otlp]
      processors: [tag, homeostasis]
      exporters: [otlp/sink]
`

// start runs the program that HOMEOSTAT names, or the workspace's debug build, with everything switched on.
func start(t *testing.T, sink string, protocol string) *subject {
	t.Helper()
	program := os.Getenv("HOMEOSTAT")
	if program == "" {
		program = "../../target/debug/homeostat"
	}
	program = absolute(t, program)
	folder := t.TempDir()
	model := absolute(t, "../../bench/model.yml")
	write(t, filepath.Join(folder, "config.yaml"), fmt.Sprintf(configuration, model, sink, protocol))
	output, err := os.Create(filepath.Join(folder, "output"))
	must(t, err)
	command := exec.Command(program, "run", "--config", "config.yaml", "--ready-file", "ready.json")
	command.Dir, command.Stdout, command.Stderr = folder, output, output
	must(t, command.Start())
	subject := &subject{t: t, command: command, output: output}
	t.Cleanup(subject.stop)
	subject.ready(filepath.Join(folder, "ready.json"))
	return subject
}

// ready waits until the program says where it listens.
func (s *subject) ready(file string) {
	s.t.Helper()
	var ready struct{ Receivers map[string][]string }
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(file)
		if err == nil && json.Unmarshal(text, &ready) == nil && len(ready.Receivers["otlp"]) == 2 {
			s.grpc, s.http = ready.Receivers["otlp"][0], ready.Receivers["otlp"][1]
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("homeostat was not ready within %s:\n%s", patience, s.said())
		}
	}
}

func (s *subject) said() string {
	text, _ := os.ReadFile(s.output.Name())
	return string(text)
}

// stop sends SIGTERM; a process that does not end then, or ends badly, fails the test.
func (s *subject) stop() {
	_ = s.command.Process.Signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- s.command.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			s.t.Errorf("homeostat ended with %v:\n%s", err, s.said())
		}
	case <-time.After(patience):
		_ = s.command.Process.Kill()
		s.t.Errorf("homeostat did not end within %s:\n%s", patience, s.said())
	}
}

// cpu is the processor time that the process has had.
func (s *subject) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.command.Process.Pid))
	must(s.t, err)
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, err := strconv.Atoi(fields[11])
	must(s.t, err)
	system, err := strconv.Atoi(fields[12])
	must(s.t, err)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// residentMiB is the most memory that the process has had resident.
func (s *subject) residentMiB() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.command.Process.Pid))
	must(s.t, err)
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.Atoi(strings.Fields(value)[0])
			must(s.t, err)
			return kib / 1024
		}
	}
	s.t.Fatal("no VmHWM")
	return 0
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	must(t, err)
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
