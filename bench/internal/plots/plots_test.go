package plots_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/lindbridge/lindbridge/bench/internal/plots"
	"github.com/lindbridge/lindbridge/bench/internal/record"
	"github.com/lindbridge/lindbridge/bench/internal/stat"
)

func TestAll_DrawsWhatThereIsAndNothingElse(t *testing.T) {
	r := new(record.Record)
	dir := t.TempDir()
	if done, err := plots.All(r, dir); err != nil || len(done) != 0 {
		t.Fatalf("of nothing: %v, %v", done, err)
	}
	for _, plot := range []string{"idle", "handlers", "translate", "spawn"} {
		for x := range 3 {
			y := float64(1000 * (x + 1))
			r.Add(plot, "curve", float64(x*1024), stat.Estimate{N: 10, Mid: y, Lo: y - 100, Hi: y + 300})
		}
	}
	r.Lines = []record.Line{{
		ID: "kill/busy : kill -9", Ours: record.CellOf("lindbridge", []float64{4e4, 5e4}, false),
		Peer: record.CellOf("kill -9 + waitpid", []float64{1e5, 2e5}, false),
	}}
	done, err := plots.All(r, dir)
	if err != nil || len(done) != 5 {
		t.Fatalf("%v, %v", done, err)
	}
	for _, d := range done {
		text, err := os.ReadFile(filepath.Join(dir, d[0]))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte("<svg")) || bytes.Contains(text, []byte("NaN")) {
			t.Errorf("%s is no picture", d[0])
		}
		for x := xml.NewDecoder(bytes.NewReader(text)); ; {
			if _, err := x.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", d[0], err)
			}
		}
	}
}
