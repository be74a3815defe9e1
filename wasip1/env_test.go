package wasip1_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/wasip1"
)

// strings reads what args_get or environ_get wrote.
func (g *guest) strings(get, sizes string) []string {
	g.tb.Helper()
	const count, size, pointers, data = 0x80, 0x84, 0x1000, 0x8000
	g.ok(sizes, count, size)
	g.ok(get, pointers, data)
	n, total := uint64(g.u32(count)), uint64(g.u32(size))
	out, end := []string{}, uint64(data)
	for i := range n {
		at := uint64(g.u32(pointers + 4*i))
		if at != end {
			g.tb.Fatalf("string %d is at %#x, want %#x", i, at, end)
		}
		s, _, ok := strings.Cut(string(g.mem[at:data+total]), "\x00")
		if !ok {
			g.tb.Fatalf("string %d has no NUL", i)
		}
		out = append(out, s)
		end = at + uint64(len(s)) + 1
	}
	if end != data+total {
		g.tb.Fatalf("%d bytes of strings, said %d", end-data, total)
	}
	return out
}

func TestArgsAndEnviron_ReachTheGuest(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[^\x00]{0,20}`), 0, 50)
		cfg := wasip1.EnvConfig{Args: words.Draw(rt, "args"), Environ: words.Draw(rt, "environ")}
		r, g := newRecorder(t, cfg)
		if got := g.strings("args_get", "args_sizes_get"); strings.Join(got, "\x00") != strings.Join(cfg.Args, "\x00") {
			rt.Fatalf("arguments %q, want %q", got, cfg.Args)
		}
		got := g.strings("environ_get", "environ_sizes_get")
		if strings.Join(got, "\x00") != strings.Join(cfg.Environ, "\x00") {
			rt.Fatalf("environment %q, want %q", got, cfg.Environ)
		}
		if calls := r.take(); calls != "" {
			rt.Fatalf("system calls %s", calls)
		}
	})
}

func TestNewEnv_RefusesWhatNoProgramCanGet(t *testing.T) {
	for _, tt := range []struct {
		cfg  wasip1.EnvConfig
		want error
	}{
		{wasip1.EnvConfig{}, nil},
		{wasip1.EnvConfig{Args: []string{""}, Environ: []string{"not a variable"}, Preopens: []string{""}}, nil},
		{wasip1.EnvConfig{Args: []string{"a\x00"}}, wasip1.ErrNUL},
		{wasip1.EnvConfig{Environ: []string{"a=b", "c=\x00"}}, wasip1.ErrNUL},
		{wasip1.EnvConfig{Preopens: []string{"/", "\x00"}}, wasip1.ErrNUL},
		{wasip1.EnvConfig{Preopens: []string{"\xff"}}, wasip1.ErrNotUTF8},
		{wasip1.EnvConfig{Args: []string{"\xff"}}, nil}, // WASI gives arguments as bytes
	} {
		if _, err := wasip1.NewEnv(tt.cfg); !errors.Is(err, tt.want) || (err != nil) != (tt.want != nil) {
			t.Errorf("%+q: %v, want %v", tt.cfg, err, tt.want)
		}
	}
}

func TestNewEnv_RefusesMoreThanA32BitMemoryHolds(t *testing.T) {
	// Strings that share their bytes: 4 GiB of arguments without 4 GiB of memory.
	long := strings.Repeat("a", 1<<20)
	args := make([]string, 1<<12)
	for i := range args {
		args[i] = long
	}
	if _, err := wasip1.NewEnv(wasip1.EnvConfig{Environ: args}); !errors.Is(err, wasip1.ErrTooLarge) {
		t.Errorf("%v, want ErrTooLarge", err)
	}
}

func TestNewEnv_KeepsNothingOfItsConfig(t *testing.T) {
	cfg := wasip1.EnvConfig{Args: []string{"a"}, Environ: []string{"b"}, Preopens: []string{"/c"}}
	_, g := newRecorder(t, cfg)
	cfg.Args[0], cfg.Environ[0], cfg.Preopens[0] = "x", "y", "/z/z"
	if got := g.strings("args_get", "args_sizes_get"); got[0] != "a" {
		t.Errorf("arguments %q", got)
	}
	g.ok("fd_prestat_get", 3, 0x400)
	if g.u32(0x404) != 2 {
		t.Errorf("preopen name has %d bytes, want 2", g.u32(0x404))
	}
}

func TestImports_AreNamedAndNumbered(t *testing.T) {
	seen := map[string]bool{}
	for i, f := range wasip1.Imports() {
		if f.ID != uint32(i) || wasip1.Name(f.ID) != f.Name {
			t.Errorf("import %d: ID %d, name %q and %q", i, f.ID, f.Name, wasip1.Name(f.ID))
		}
		if strings.Trim(f.Params, "iI") != "" || len(f.Params) > 9 || f.Results != "i" && f.Name != "proc_exit" {
			t.Errorf("%s: type %q -> %q", f.Name, f.Params, f.Results)
		}
		if module := map[bool]string{true: "wasi", false: "wasi_snapshot_preview1"}[f.Name == "thread-spawn"]; f.Module != module {
			t.Errorf("%s: module %q", f.Name, f.Module)
		}
		seen[f.Name] = true
	}
	if len(seen) != 47 {
		t.Errorf("%d functions, want the 46 of WASI preview 1 and thread-spawn", len(seen))
	}
	if got := wasip1.Name(47); got != "wasi function 47" {
		t.Errorf("name of an unknown function: %q", got)
	}
	wasip1.Imports()[0].Name = "changed"
	if wasip1.Name(0) == "changed" || wasip1.Imports()[0].Name == "changed" {
		t.Error("a caller of Imports changed the table")
	}
}
