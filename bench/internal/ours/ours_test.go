package ours_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/lindbridge/lindbridge/bench/internal/drive"
	"github.com/lindbridge/lindbridge/bench/internal/ours"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestDriver_AnswersEachRequest asks for a few samples of everything, and looks that they are times and as many as asked for.
func TestDriver_AnswersEachRequest(t *testing.T) {
	silent, never, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	defer never.Close()
	d, err := ours.New(silent)
	if err != nil {
		t.Fatal(err)
	}
	requests := []struct {
		text    string
		samples int
		fails   bool
	}{
		{text: "version 0"},
		{text: "kill 1 0 0 2", samples: 2},
		{text: "kill 0 1 0 2", samples: 2},
		{text: "kill 0 0 1 2", samples: 2},
		{text: "kill 2 3 3 2", samples: 2},
		{text: "spawn plain 2", samples: 2},
		{text: "spawn memory 2", samples: 2},
		{text: "spawn shared 2", samples: 2},
		{text: "crop 1", samples: 1},
		{text: "rate 2 4", samples: 1},
		{text: "call lind 2", samples: 2},
		{text: "call grate1 2", samples: 2},
		{text: "call grate3 2", samples: 2},
		{text: "cages bare 2 0", samples: 1},
		{text: "cages idle 2 0", samples: 1},
		{text: "cages blocked 2 0", samples: 1},
		{text: "cages mixed 4 0", samples: 1},
		{text: "stacks 2 1024 0", samples: 1},
		{text: "kill 0 1 0 1", samples: 1}, // beside all of them
		{text: "stuck 0"},
		{text: "stuck 0", fails: true},
		{text: "unstuck 0"},
		{text: "clear 0", samples: 1},
		{text: "cages busy 2 0", samples: 1},
		{text: "clear 0", samples: 1},
		{text: "spawn none 1", fails: true},
		{text: "call grate9 1", fails: true},
		{text: "cages asleep 1 0", fails: true},
		{text: "kill 1 1", fails: true},
		{text: "sing 1", fails: true},
	}
	var in, out strings.Builder
	for _, r := range requests {
		in.WriteString(r.text + "\n")
	}
	if err := drive.Serve(strings.NewReader(in.String()), &out, d.Do); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(requests) {
		t.Fatalf("%d answers to %d requests:\n%s", len(lines), len(requests), out.String())
	}
	for i, r := range requests {
		var reply drive.Reply
		if err := json.Unmarshal([]byte(lines[i]), &reply); err != nil {
			t.Fatal(err)
		}
		if (reply.Error != "") != r.fails || len(reply.Ns) != r.samples && !r.fails {
			t.Errorf("%s: %s", r.text, lines[i])
		}
		for _, ns := range reply.Ns {
			if ns <= 0 || ns > 60e9 {
				t.Errorf("%s: took %v ns", r.text, ns)
			}
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
