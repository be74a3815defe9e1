package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/internal/fault"
	"github.com/lindbridge/lindbridge/internal/soak"
)

func figuresOf(cages int64) soak.Figures { return soak.Figures{Cages: cages} }

// soakFor runs the command with these arguments.
func soakFor(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	args = append([]string{"soak", "--cages", "20", "--workers", "2", "--guests", ""}, args...)
	code = execute(ctx, args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestSoak_SaysWhatItDid(t *testing.T) {
	code, stdout, stderr := soakFor(t.Context(), "--for", "1s", "--seed", "3", "--programs", "10")
	if code != 0 {
		t.Fatalf("code %d\n%s\n%s", code, stdout, stderr)
	}
	for _, want := range []string{"seed 3", "violations 0", "host_kill", "step memory", "p99"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the figures do not say %q:\n%s", want, stdout)
		}
	}
	if !strings.Contains(stderr, "seed 3") {
		t.Errorf("the seed is not said at the beginning: %q", stderr)
	}
}

func TestSoak_JSON(t *testing.T) {
	code, stdout, stderr := soakFor(t.Context(), "--for", "1s", "--seed", "4", "--programs", "10", "--json", "--replay", "--from", "5")
	if code != 0 {
		t.Fatalf("code %d\n%s\n%s", code, stdout, stderr)
	}
	var f struct {
		Seed, Cages, Exits int64
		Causes             map[string]int64
		Phases             map[string]struct {
			N    int64 `json:"n"`
			P50  int64 `json:"p50_ns"`
			P99  int64 `json:"p99_ns"`
			Most int64 `json:"max_ns"`
		}
		Violations []string
	}
	if err := json.Unmarshal([]byte(stdout), &f); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	stop := f.Phases["stop"]
	if f.Seed != 4 || f.Cages == 0 || f.Cages != f.Exits || f.Causes["host_kill"] == 0 || f.Violations == nil {
		t.Errorf("%+v", f)
	}
	if stop.N == 0 || stop.P50 <= 0 || stop.P99 < stop.P50 || stop.Most < stop.P99 {
		t.Errorf("stop: %+v", stop)
	}
}

// Ctrl-C ends it with the figures so far.
func TestSoak_EndsEarlyWithTheFiguresSoFar(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	began := time.Now()
	code, stdout, stderr := soakFor(ctx, "--for", "1h", "--programs", "10")
	if code != 0 || !strings.Contains(stdout, "violations 0") {
		t.Errorf("code %d\n%s\n%s", code, stdout, stderr)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}

func TestSoak_BadCommandLines(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--for", "0s"}, codeUsage, "--for"},
		{[]string{"--for", "1s", "--cages", "0"}, codeUsage, "--cages"},
		{[]string{"--from", "-1"}, codeUsage, "--from"},
		{[]string{"file"}, codeUsage, "file"},
		{[]string{"--for", "1s", "--guests", none}, codeFailure, none},
		{[]string{"--for", "1s", "--shim", none}, codeFailure, none},
	} {
		code, _, stderr := soakFor(t.Context(), c.args...)
		if code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("%q: code %d, want %d\n%s", c.args, code, c.code, stderr)
		}
	}
	if !fault.Enabled {
		code, _, stderr := soakFor(t.Context(), "--faults")
		if code != codeUsage || !strings.Contains(stderr, "make soak") {
			t.Errorf("faults in a build without: code %d\n%s", code, stderr)
		}
	}
}

// What is no terminal gets a line now and then, and no line that changes.
func TestShown_OnNoTerminal(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if s := newShown(f); s.terminal {
		t.Error("a file is taken for a terminal")
	}
	var out bytes.Buffer
	s := newShown(&out)
	s.progress(figuresOf(1))
	if out.Len() != 0 {
		t.Errorf("too soon: %q", out.String())
	}
	s.last = time.Now().Add(-time.Minute)
	s.progress(figuresOf(2))
	s.progress(figuresOf(3))
	s.end()
	if got := out.String(); strings.Count(got, "\n") != 1 || strings.Contains(got, "\r") || !strings.Contains(got, "2 cages") {
		t.Errorf("%q", got)
	}
	s.terminal = true
	out.Reset()
	s.progress(figuresOf(4))
	s.end()
	if got := out.String(); !strings.HasPrefix(got, "\r\x1b[K") || strings.Contains(got, "\n") || !strings.Contains(got, "4 cages") {
		t.Errorf("%q", got)
	}
}
