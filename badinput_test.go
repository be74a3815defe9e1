package lindbridge_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/exitcoord"
)

func source(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("guests", "wat", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLoad_RefusesWithReason: each bad module is an error of its kind that says what is wrong, and leaves nothing.
func TestLoad_RefusesWithReason(t *testing.T) {
	rt := newRuntime(t)
	hello, err := os.ReadFile(filepath.Join("testdata", "guests", "hello.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(hello)
	flipped[len(flipped)/2] ^= 0x55
	flipped[len(flipped)/2+1] ^= 0xff
	for _, c := range []struct {
		name  string
		bytes []byte
		kind  error
		words string
	}{
		{"empty", nil, lindbridge.ErrModule, "empty"},
		{"text that is none", []byte("hello"), lindbridge.ErrModule, "text"},
		{"truncated", hello[:len(hello)/2], lindbridge.ErrModule, ""},
		{"header alone cut", hello[:6], lindbridge.ErrModule, ""},
		{"damaged", flipped, lindbridge.ErrModule, ""},
		{"unknown import", source(t, "bad-import.wat"), lindbridge.ErrImport, "nowhere.no-such-function"},
		{"import of another type", source(t, "bad-import-type.wat"), lindbridge.ErrImport, "wasi_snapshot_preview1.fd_write"},
		{"threads without shared memory", source(t, "bad-spawn-unshared.wat"), lindbridge.ErrThreads, "shared memory"},
		{"threads without an entry", source(t, "bad-no-thread-start.wat"), lindbridge.ErrThreads, "wasi_thread_start"},
		{
			"thread entry of another type", []byte(`(module (func (export "wasi_thread_start") (result i32) i32.const 0))`),
			lindbridge.ErrExport, "(i32, i32) -> ()",
		},
		{"the shim's own imports", []byte(`(module (import "lindshim" "wait32:0" (func)))`), lindbridge.ErrModule, "lindshim"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := rt.Load(t.Context(), c.bytes)
			if err == nil {
				m.Close()
				t.Fatal("it was loaded")
			}
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v; want %q, and %q in it", err, c.kind, c.words)
			}
		})
	}
	if s, err := rt.Stats(); err != nil || s.Modules != 0 {
		t.Errorf("%+v, %v; want no module", s, err)
	}
}

// TestSpawn_RefusesWithReason: what cannot be started is an error of its kind, and leaves no cage, domain or descriptor.
func TestSpawn_RefusesWithReason(t *testing.T) {
	rt := newRuntime(t)
	other := newRuntime(t)
	tiny := load(t, rt, string(source(t, "tiny.wat")))
	closed := load(t, rt, string(source(t, "tiny.wat")))
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		p     lindbridge.Program
		kind  error
		words string
	}{
		{"no module", lindbridge.Program{}, lindbridge.ErrNoModule, ""},
		{"a closed module", lindbridge.Program{Module: closed}, lindbridge.ErrNoModule, "closed"},
		{"another runtime's", lindbridge.Program{Module: load(t, other, string(source(t, "tiny.wat")))}, lindbridge.ErrNoModule, ""},
		{"a library", lindbridge.Program{Module: load(t, rt, string(source(t, "bad-no-start.wat")))}, lindbridge.ErrExport, "_start"},
		{"an entry with parameters", lindbridge.Program{Module: load(t, rt, string(source(t, "bad-start-type.wat")))}, lindbridge.ErrExport, "_start"},
		{
			"too much memory",
			lindbridge.Program{Module: load(t, rt, string(source(t, "bad-memory.wat"))), MaxMemory: 1 << 20},
			lindbridge.ErrMemory, "1048576",
		},
		{
			"too much shared memory",
			lindbridge.Program{Module: load(t, rt, crowd(false)), MaxMemory: 4096},
			lindbridge.ErrMemory, "65536",
		},
		{"no such directory", lindbridge.Program{Module: tiny, Dirs: []lindbridge.Dir{{Host: "testdata/nowhere", Guest: "/"}}}, fs.ErrNotExist, "nowhere"},
		{"no directory", lindbridge.Program{Module: tiny, Dirs: []lindbridge.Dir{{Host: "go.mod", Guest: "/"}}}, nil, "not a directory"},
		{"NUL in an argument", lindbridge.Program{Module: tiny, Args: []string{"a\x00b"}}, nil, "NUL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := rt.Spawn(t.Context(), c.p)
			if err == nil {
				t.Fatal("it was started")
			}
			if c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v; want %v, and %q in it", err, c.kind, c.words)
			}
		})
	}
	if s, err := rt.Stats(); err != nil || s.Cages != 0 || s.Domains != 0 {
		t.Errorf("%+v, %v; want no cage and no domain", s, err)
	}
	// The ids are free again: the next cage has the first of them.
	first := spawn(t, rt, lindbridge.Program{Module: tiny})
	if first.ID() != 2 {
		t.Errorf("the next cage has id %d, want 2", first.ID())
	}
	finish(t, first)
}

func TestGuestPointersOutsideMemory_AreFaults(t *testing.T) {
	rt := newRuntime(t)
	c := spawn(t, rt, lindbridge.Program{Module: load(t, rt, string(source(t, "bad-pointers.wat"))), Args: []string{"x"}})
	if code := finish(t, c); code != 0 {
		t.Errorf("check %d of the guest failed\n%v", code, c.Report())
	}
}

// TestGuestChangesArgumentsMeanwhile: the host reads an iovec array once, so that another thread cannot slip it one that
// was not checked.
func TestGuestChangesArgumentsMeanwhile(t *testing.T) {
	rt := newRuntime(t)
	var out bytes.Buffer
	c := spawn(t, rt, lindbridge.Program{Module: load(t, rt, string(source(t, "iovec-race.wat"))), Stdout: &out})
	if code := finish(t, c); code != 0 {
		t.Errorf("exit code %d\n%v", code, c.Report())
	}
	if rest := strings.ReplaceAll(out.String(), " ok\n", ""); strings.Trim(rest, "\x00") != "" {
		t.Errorf("the guest wrote something that it does not have: %q", rest)
	}
}

// TestThreadLimits: a thread too many is an error that the guest sees, and the cage still ends as it should.
func TestThreadLimits(t *testing.T) {
	wat := string(source(t, "many-threads.wat"))
	t.Run("of a cage", func(t *testing.T) {
		rt := newRuntime(t)
		c := spawn(t, rt, lindbridge.Program{Module: load(t, rt, wat), MaxThreads: 50})
		if code := finish(t, c); code != 0 || len(c.Report().Threads) != 50 {
			t.Errorf("exit code %d\n%v", code, c.Report())
		}
	})
	t.Run("of the runtime", func(t *testing.T) {
		rt := newRuntime(t, func(cfg *lindbridge.Config) { cfg.MaxThreads = 300 })
		m := load(t, rt, wat)
		for range 5 { // each finds room for as many as the one before
			c := spawn(t, rt, lindbridge.Program{Module: m})
			if code := finish(t, c); code != 0 || len(c.Report().Threads) != 300 {
				t.Fatalf("exit code %d\n%v", code, c.Report())
			}
		}
	})
	t.Run("of cages", func(t *testing.T) {
		rt := newRuntime(t, func(cfg *lindbridge.Config) { cfg.MaxCages = 2 })
		tiny := load(t, rt, string(source(t, "tiny.wat")))
		a, b := spawn(t, rt, lindbridge.Program{Module: tiny}), spawn(t, rt, lindbridge.Program{Module: tiny})
		if _, err := rt.Spawn(t.Context(), lindbridge.Program{Module: tiny}); !errors.Is(err, lindbridge.ErrTooManyCages) {
			t.Errorf("a third cage: %v", err)
		}
		finish(t, a)
		finish(t, spawn(t, rt, lindbridge.Program{Module: tiny}))
		finish(t, b)
	})
}

func TestShim_MissingSaysWhereAndHow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "liblindshim.so")
	_, err := lindbridge.New(lindbridge.Config{ShimPath: path})
	if !errors.Is(err, lindbridge.ErrShimNotFound) {
		t.Fatalf("%v, want %v", err, lindbridge.ErrShimNotFound)
	}
	for _, words := range []string{path, "make build"} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%v: no %q in it", err, words)
		}
	}
}

func TestCacheDir_ThatCannotBeUsedIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	rt, err := lindbridge.New(lindbridge.Config{CacheDir: filepath.Join(file, "cache")})
	if err == nil {
		rt.Close(context.Background())
		t.Fatal("a cache under a file")
	}
	if !errors.Is(err, lindbridge.ErrCache) {
		t.Errorf("%v, want %v", err, lindbridge.ErrCache)
	}
}

// TestCloseWhileSpawning: whatever Spawn and Close do to each other, what was spawned is ended, and nothing is left.
func TestCloseWhileSpawning(t *testing.T) {
	for range 20 {
		rt, err := lindbridge.New(lindbridge.Config{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := rt.Load(t.Context(), []byte(`(module (memory (export "memory") 1) (func (export "_start") (loop $l br $l)))`))
		if err != nil {
			t.Fatal(err)
		}
		spawned := make(chan *lindbridge.Cage, 100)
		go func() {
			defer close(spawned)
			for {
				c, err := rt.Spawn(context.Background(), lindbridge.Program{Module: m})
				if err != nil {
					if !errors.Is(err, lindbridge.ErrClosed) {
						t.Errorf("spawn: %v", err)
					}
					return
				}
				spawned <- c
			}
		}()
		<-spawned
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := rt.Close(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		for c := range spawned {
			finish(t, c)
			if kind := c.Report().Cause.Kind; kind != exitcoord.RuntimeClose {
				t.Errorf("cause %v", kind)
			}
		}
	}
}
