package matrix_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lindbridge/lindbridge/guests/matrix"
)

func all() []matrix.Case { return append(matrix.Cases(), matrix.Proposal()...) }

func TestCases_CoverEveryTripleOnce(t *testing.T) {
	type triple struct {
		who   matrix.Who
		how   matrix.How
		while matrix.While
	}
	seen := map[triple]bool{}
	for _, c := range matrix.Cases() {
		k := triple{c.Who, c.How, c.While}
		if seen[k] {
			t.Errorf("%s: twice", c.Name)
		}
		seen[k] = true
	}
	if want := 2 * 5 * 15; len(seen) != want {
		t.Errorf("%d triples, want %d", len(seen), want)
	}
}

func TestCases_HaveNamesOfTheirOwnAndAnEnd(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range all() {
		if seen[c.Name] {
			t.Errorf("%s: two cases of that name", c.Name)
		}
		seen[c.Name] = true
		if len(c.Want) == 0 {
			t.Errorf("%s: no right end", c.Name)
		}
		for _, o := range c.Want {
			if o.Code >= matrix.FailSpawn && o.Code <= matrix.FailWrite {
				t.Errorf("%s: accepts the failure code %d", c.Name, o.Code)
			}
			if !c.Accepts(o) {
				t.Errorf("%s: does not accept its own %+v", c.Name, o)
			}
		}
	}
}

func TestAccepts_RefusesAnotherCauseCodeOrThread(t *testing.T) {
	c := matrix.New(matrix.Other, matrix.ProcExit, matrix.Spin, 2)
	right := c.Want[0]
	for name, change := range map[string]func(*matrix.Outcome){
		"cause":  func(o *matrix.Outcome) { o.Cause = matrix.CauseHostKill },
		"code":   func(o *matrix.Outcome) { o.Code++ },
		"signal": func(o *matrix.Outcome) { o.Signal = 9 },
		"thread": func(o *matrix.Outcome) { o.By = matrix.ByMain },
	} {
		o := right
		change(&o)
		if c.Accepts(o) {
			t.Errorf("accepts a wrong %s: %+v", name, o)
		}
	}
}

func TestNew_RefusesThreadCountsThatDoNotFitItsMemory(t *testing.T) {
	for _, n := range []int{0, -1, matrix.MaxThreads + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d threads: no panic", n)
				}
			}()
			matrix.New(matrix.Main, matrix.Trap, matrix.Spin, n)
		}()
	}
}

// wabt is another implementation of the text format than the one that runs the programs.
func TestWat_IsValidToWabt(t *testing.T) {
	tool, err := exec.LookPath("wat2wasm")
	if err != nil {
		t.Skip("no wat2wasm: scripts/deps.sh installs it")
	}
	cases := all()
	for who := matrix.Main; who <= matrix.Other; who++ {
		cases = append(cases, matrix.New(who, matrix.HostKill, matrix.Mixed, matrix.MaxThreads))
	}
	dir := t.TempDir()
	for _, c := range cases {
		path := filepath.Join(dir, strings.ReplaceAll(c.Name, "/", "-")+".wat")
		if err := os.WriteFile(path, []byte(c.Wat), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool, "--enable-threads", path, "-o", os.DevNull).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", c.Name, err, out)
		}
	}
}
