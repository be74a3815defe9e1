package bridge_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/lindbridge/lindbridge/bridge"
)

// loadErrors are what loading a module may answer, and what making a domain of it and starting that may answer.
var (
	loadErrors  = []error{bridge.ErrModule, bridge.ErrImport, bridge.ErrExport, bridge.ErrMemory}
	startErrors = []error{bridge.ErrMemory, bridge.ErrExport, bridge.ErrRuntime, bridge.ErrLimit}
)

// mustBeOneOf fails if err is none of those that are documented.
func mustBeOneOf(t *testing.T, what string, err error, documented []error) {
	t.Helper()
	for _, kind := range documented {
		if errors.Is(err, kind) {
			if !strings.Contains(err.Error(), kind.Error()+": ") {
				t.Fatalf("%s: %v says no more than its kind", what, err)
			}
			return
		}
	}
	t.Fatalf("%s: %v, which is not documented", what, err)
}

// FuzzLoad loads any bytes, as a program and as a grate. They are an error of the documented kinds, the same one each time,
// or a module that can be looked at, run and stopped at any moment, and of which nothing is left.
func FuzzLoad(f *testing.F) {
	h := newHost(keepGoing)
	e := openShim(f, h, nop,
		bridge.Import{Module: "wasi_snapshot_preview1", Name: "fd_write", Params: "iiii", Results: "i", ID: 2},
		bridge.Import{Module: "wasi_snapshot_preview1", Name: "proc_exit", Params: "i", ID: 3},
		bridge.Import{Module: "wasi", Name: "thread-spawn", Params: "i", Results: "i", ID: 4},
		bridge.Import{Module: "lind", Name: "make-syscall", Params: "i" + strings.Repeat("I", 15), Results: "i", ID: 5})
	for _, pattern := range []string{"../guests/wat/*.wat", "../testdata/guests/[eht]*.wasm", "../testdata/guests/lind-geteuid.wasm"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			must(f, err)
			f.Add(b)
		}
	}
	for _, wat := range []string{
		threadsWat, grateWat(20, increments), programWat(10, asks), "(module)", "\x00asm\x01\x00\x00\x00", "",
		`(module (memory 1) (func $s (drop (memory.grow (i32.const 9)))) (start $s) (func (export "_start") (loop $l (br $l))))`,
		`(module (import "env" "memory" (memory i64 1 2 shared)) (func (export "_start")
			(drop (memory.atomic.wait64 (i64.const 8) (i64.const 0) (i64.const -1)))))`,
		`(module (func $f (export "_start") (call $f)) (table 10000000 funcref) (memory (export "memory") 65536))`,
		`(module (import "host" "nop" (func (result i32))) (import "lindshim" "wait32:0" (func)))`,
	} {
		f.Add([]byte(wat))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		watch(t)
		for _, how := range []struct {
			name string
			load func([]byte) (*bridge.Module, error)
		}{{"load", e.Load}, {"load grate", e.LoadGrate}} {
			m, err := how.load(b)
			again, errAgain := how.load(b)
			if fmt.Sprint(err) != fmt.Sprint(errAgain) {
				t.Fatalf("%s: %v, and the second time %v", how.name, err, errAgain)
			}
			if err != nil {
				mustBeOneOf(t, how.name, err, loadErrors)
				continue
			}
			must(t, again.Close())
			look(t, m)
			runAnyhow(t, h, m, how.name == "load grate")
			must(t, m.Close())
			if _, err := m.Info(); !errors.Is(err, bridge.ErrHandle) {
				t.Fatalf("a closed module: %v", err)
			}
		}
		stats, err := e.Stats()
		must(t, err)
		if stats.Modules != 0 || stats.Domains != 0 {
			t.Fatalf("left behind: %+v", stats)
		}
	})
}

// look asks a module for all that it can say.
func look(t *testing.T, m *bridge.Module) {
	t.Helper()
	info, err := m.Info()
	must(t, err)
	imports, err := m.Imports()
	must(t, err)
	exports, err := m.Exports()
	must(t, err)
	if uint64(len(imports)) != info.Imports || uint64(len(exports)) != info.Exports {
		t.Fatalf("%+v, and %d imports and %d exports", info, len(imports), len(exports))
	}
	for _, im := range imports {
		if im.Module == "lindshim" {
			t.Fatalf("the shim's own import is seen: %+v", im)
		}
	}
}

// runAnyhow runs a domain of the module, ends it at whatever it is doing then, and sees that it is over.
func runAnyhow(t *testing.T, h *host, m *bridge.Module, grate bool) {
	t.Helper()
	d, err := m.NewDomain(bridge.DomainConfig{MaxMemoryBytes: 16 << 20, MaxThreads: 4})
	if err != nil {
		mustBeOneOf(t, "make domain", err, startErrors)
		return
	}
	if grate {
		if _, err := d.OpenGrate(bridge.GrateConfig{MaxWorkers: 2}); err != nil {
			mustBeOneOf(t, "open grate", err, startErrors)
		}
	}
	started := d.Start("_start")
	if started != nil {
		mustBeOneOf(t, "start", started, startErrors)
	}
	if _, err := d.SpawnThread(7); err != nil {
		mustBeOneOf(t, "spawn thread", err, startErrors)
	}
	if _, err := d.Memory(); err != nil {
		t.Fatal(err)
	}
	must(t, d.Stop())
	r := h.quiet(t)
	if r.Domain != d || len(h.quiescent) != 0 {
		t.Fatalf("the report is of %v, and %d more are there", r.Domain, len(h.quiescent))
	}
	must(t, d.Close())
	for len(h.ends) > 0 {
		if end := <-h.ends; end.Domain != d {
			t.Fatalf("the end of a thread of another domain: %+v", end)
		}
	}
}

// watch ends the process, with all stacks, if the test has not ended after some time: the fuzzer alone would not say where
// it hangs.
func watch(t *testing.T) {
	t.Helper()
	timer := time.AfterFunc(time.Minute, func() {
		debug.SetTraceback("all")
		panic(t.Name() + " hangs")
	})
	t.Cleanup(func() { timer.Stop() })
}
