package lindbridge_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/lindbridge/lindbridge"
)

// TestProposalSuite runs the wasi-threads proposal's own tests, which are not part of this repository, from the directory
// that LINDBRIDGE_SUITE names: all of them at once, LINDBRIDGE_SUITE_TIMES times, in this process. See make suite.
func TestProposalSuite(t *testing.T) {
	dir := os.Getenv("LINDBRIDGE_SUITE")
	if dir == "" {
		t.Skip("LINDBRIDGE_SUITE names no directory with the proposal's test/testsuite")
	}
	programs, err := filepath.Glob(filepath.Join(dir, "*.wat"))
	if err != nil || len(programs) == 0 {
		t.Fatalf("no programs in %s: %v", dir, err)
	}
	rt := newRuntime(t)
	stdin := silence(t)
	type program struct {
		name   string
		module *lindbridge.Module
		want   int
	}
	var all []program
	for _, path := range programs {
		m, err := rt.LoadFile(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		var expected struct {
			ExitCode int `json:"exit_code"`
		}
		b, err := os.ReadFile(strings.TrimSuffix(path, ".wat") + ".json")
		if err == nil {
			err = json.Unmarshal(b, &expected)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		all = append(all, program{filepath.Base(path), m, expected.ExitCode})
	}
	const batch = 4 // some of the programs are busy, and all count on half a second being enough to begin
	passed := 0
	for n := times(t, "LINDBRIDGE_SUITE_TIMES", 1); n > 0; n -= batch {
		var wg sync.WaitGroup
		for range min(n, batch) {
			for _, p := range all {
				c := spawn(t, rt, lindbridge.Program{Module: p.module, Stdin: stdin})
				passed++
				wg.Go(func() {
					<-c.Done()
					status, err := c.Wait(t.Context())
					if err != nil || status.ExitCode() != p.want {
						t.Errorf("%s: exit code %d, %v, want %d\n%v", p.name, status.ExitCode(), err, p.want, c.Report())
					}
				})
			}
		}
		wg.Wait()
	}
	t.Logf("%d runs of %d programs", passed, len(all))
}
