package wazero_test

import (
	"os"
	"strings"
	"testing"

	"github.com/lindbridge/lindbridge/bench/internal/drive"
	"github.com/lindbridge/lindbridge/bench/internal/wazero"
)

// TestDriver_MeasuresWhatItSays: the guest compiles, a busy call is ended, and what has more threads is refused.
func TestDriver_MeasuresWhatItSays(t *testing.T) {
	silent, never, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	defer never.Close()
	d, err := wazero.New(silent)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	requests := "kill 1 0 0 2\nspawn memory 2\nspawn plain 2\nhostcall 2\nkill 2 0 0 1\nspawn shared 1\nversion 0\n"
	if err := drive.Serve(strings.NewReader(requests), &out, d.Do); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{`{"ns":[`, `{"ns":[`, `{"ns":[`, `{"ns":[`, `{"cannot":"a module has one thread"}`, `{"error":"no such request`, `{"text":"wazero`}
	if len(lines) != len(want) {
		t.Fatalf("%q", lines)
	}
	for i, prefix := range want {
		if !strings.HasPrefix(lines[i], prefix) {
			t.Errorf("%q, want %q", lines[i], prefix)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
