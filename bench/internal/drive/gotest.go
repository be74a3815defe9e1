package drive

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// TestBinary is a test binary of Go whose benchmarks are samples: a contestant, too.
type TestBinary struct {
	// Path is the binary.
	Path string
	// CPU is the processor that its runs are pinned to. Negative: none.
	CPU int
	// Time is for how long a sample is to run; Go's benchmarks run about twice as long, to find out how often.
	Time time.Duration

	pinned bool
}

// Pinned reports whether its last run was on the one processor that was asked for.
func (t *TestBinary) Pinned() bool { return t.pinned }

// Ask runs the benchmark that the words name, its name first and that of its case after it, n times.
func (t *TestBinary) Ask(patience time.Duration, n int, words ...string) (Reply, error) {
	pattern := make([]string, len(words))
	for i, w := range words {
		pattern[i] = "^" + regexp.QuoteMeta(w) + "$"
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.Path, "-test.run=^$", "-test.bench="+strings.Join(pattern, "/"),
		"-test.benchtime="+t.Time.String(), fmt.Sprintf("-test.count=%d", n))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	var err error
	if t.pinned, err = startPinned(cmd, t.CPU); err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return Reply{}, fmt.Errorf("%s: %w\n%s", cmd, errors.Join(err, ctx.Err()), out.String())
	}
	ns, err := ParseBenchmarks(out.String(), strings.Join(words, "/"))
	if err == nil && len(ns) != n {
		err = fmt.Errorf("%d results, want %d", len(ns), n)
	}
	if err != nil {
		return Reply{}, fmt.Errorf("%s: %w\n%s", cmd, err, out.String())
	}
	return Reply{Ns: ns}, nil
}

// Close does nothing: no process is left.
func (*TestBinary) Close() error { return nil }

// processors is what Go adds to a name when there is more than one.
var processors = regexp.MustCompile(`-[0-9]+$`)

// ParseBenchmarks takes the nanoseconds of each result of the benchmark with that name out of what a test binary prints,
// which may have run others with it: a pattern matches what is beneath it, too.
func ParseBenchmarks(text, name string) ([]float64, error) {
	var ns []float64
	for l := range strings.Lines(text) {
		words := strings.Fields(l)
		if len(words) < 4 || words[0] != name && processors.ReplaceAllString(words[0], "") != name {
			continue
		}
		found := false
		for i := 2; i+1 < len(words); i += 2 { // name, iterations, then pairs
			if words[i+1] != "ns/op" {
				continue
			}
			v, err := strconv.ParseFloat(words[i], 64)
			if err != nil {
				return nil, err
			}
			ns, found = append(ns, v), true
		}
		if !found {
			return nil, fmt.Errorf("no ns/op in %q", l)
		}
	}
	return ns, nil
}
