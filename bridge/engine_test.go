package bridge_test

import (
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"github.com/lindbridge/lindbridge/bridge"
)

func TestErrors_EachStatusHasItsSentinel(t *testing.T) {
	e := openFake(t, newHost(keepGoing))
	for status, want := range map[int]error{
		1: bridge.ErrInvalid, 2: bridge.ErrHandle, 3: bridge.ErrModule, 4: bridge.ErrImport, 5: bridge.ErrExport,
		6: bridge.ErrMemory, 7: bridge.ErrLimit, 8: bridge.ErrClosed, 9: bridge.ErrBusy, 10: bridge.ErrIO,
		11: bridge.ErrRuntime, 12: bridge.ErrPanic, 13: bridge.ErrABI, 14: bridge.ErrDepth, 15: bridge.ErrUnsupported,
	} {
		_, err := e.Load([]byte(fmt.Sprintf("status %d text of %d", status, status)))
		mustBe(t, err, want)
		equal(t, "message", err.Error(), fmt.Sprintf("load module: %v: text of %d", want, status))
	}
	for _, status := range []int{16, 99, -1} {
		_, err := e.Load([]byte(fmt.Sprintf("status %d strange", status)))
		mustBe(t, err, bridge.ErrRuntime)
		contains(t, err.Error(), fmt.Sprintf("unknown status %d", status), "strange")
	}
}

func TestErrors_TextIsTheCallsOwn(t *testing.T) {
	e := openFake(t, newHost(keepGoing))
	long := strings.Repeat("0123456789", 1000)
	_, err := e.Load([]byte("status 3 " + long))
	equal(t, "message", err.Error(), "load module: "+bridge.ErrModule.Error()+": "+long[:4092])
	_, err = e.Load([]byte("status 3"))
	equal(t, "message without text", err.Error(), "load module: "+bridge.ErrModule.Error())
}

func TestLoad_TakesEmptyInput(t *testing.T) {
	e := openFake(t, newHost(keepGoing))
	for _, b := range [][]byte{nil, {}} {
		_, err := e.Load(b)
		mustBe(t, err, bridge.ErrModule)
	}
}

func TestDefine_PassesNamesAndTypes(t *testing.T) {
	e := openFake(t, newHost(keepGoing))
	must(t, e.Define(nil))
	fine := bridge.Import{Module: "m", Name: "one", Params: "iIfF", Results: "I", ID: 2}
	must(t, e.Define([]bridge.Import{{Module: "m", Name: "two"}, fine}))
	err := e.Define([]bridge.Import{fine, {Module: "mod", Name: "bad", Params: "iI", Results: "if", ID: 3}})
	mustBe(t, err, bridge.ErrInvalid)
	contains(t, err.Error(), "mod.bad has type (iI) -> (if)")
}

func TestModule_TellsWhatItIs(t *testing.T) {
	e := openFake(t, newHost(keepGoing))
	m := load(t, e, "import wasi fd_read", "import env memory", "export _start", "memory 3")
	info, err := m.Info()
	must(t, err)
	equal(t, "info", info, bridge.ModuleInfo{
		Imports: 2, Exports: 1, SharedMemory: true, MemoryMin: 3 << 16, MemoryMax: 3 << 16, Rewritten: true,
	})
	imports, err := m.Imports()
	must(t, err)
	equal(t, "imports", len(imports), 2)
	want := bridge.Extern{Kind: bridge.ExternFunc, Module: "env", Name: "memory", Type: "() -> ()"}
	equal(t, "import 1", imports[1], want)
	exports, err := m.Exports()
	must(t, err)
	equal(t, "exports", len(exports), 1)
	must(t, m.Close())
	// Names are Go's own by now.
	equal(t, "import 0", imports[0].Module+"."+imports[0].Name, "wasi.fd_read")
	equal(t, "export 0", exports[0].Name, "_start")
}

func TestModule_NamesMayBeReadWhileItIsClosed(t *testing.T) {
	e := openFake(t, newHost(keepGoing))
	for range 200 {
		m := load(t, e, "import wasi fd_read", "import wasi fd_write")
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				list, err := m.Imports()
				if err != nil {
					mustBe(t, err, bridge.ErrHandle)
					return
				}
				equal(t, "names", list[0].Name+list[1].Name, "fd_readfd_write")
			})
		}
		must(t, m.Close())
		wg.Wait()
	}
}

func TestClosed_AnswersErrHandleAndClosesAgain(t *testing.T) {
	h := newHost(keepGoing)
	e, err := bridge.Open(bridge.Config{Path: fakeShim(t), Handler: h})
	must(t, err)
	m := load(t, e, "main:", "block", "thread:")
	d, err := m.NewDomain(bridge.DomainConfig{})
	must(t, err)
	left := load(t, e)

	must(t, d.Start("_start"))
	mustBe(t, d.Close(), bridge.ErrBusy)
	mustBe(t, e.Close(), bridge.ErrBusy)
	if _, err := e.Stats(); err != nil {
		t.Errorf("an engine is closed after Close was ErrBusy: %v", err)
	}
	must(t, d.Stop())
	must(t, d.Stop())
	h.quiet(t)
	_, err = d.SpawnThread(0)
	mustBe(t, err, bridge.ErrClosed)

	must(t, d.Close())
	must(t, d.Close())
	_, spawnErr := d.SpawnThread(1)
	_, fdErr := d.CancelFD()
	_, threadsErr := d.Threads()
	_, memoryErr := d.Memory()
	for _, err := range []error{d.Start("_start"), d.Stop(), spawnErr, fdErr, threadsErr, memoryErr} {
		mustBe(t, err, bridge.ErrHandle)
		contains(t, err.Error(), fmt.Sprintf("%#x", d.Handle()), "the domain was closed")
	}

	must(t, m.Close())
	must(t, m.Close())
	_, newErr := m.NewDomain(bridge.DomainConfig{})
	_, infoErr := m.Info()
	_, importsErr := m.Imports()
	_, exportsErr := m.Exports()
	for _, err := range []error{newErr, infoErr, importsErr, exportsErr} {
		mustBe(t, err, bridge.ErrHandle)
	}

	must(t, e.Close())
	must(t, e.Close())
	_, loadErr := e.Load(nil)
	_, statsErr := e.Stats()
	for _, err := range []error{loadErr, statsErr, e.Define(nil)} {
		mustBe(t, err, bridge.ErrHandle)
	}
	_, err = left.NewDomain(bridge.DomainConfig{})
	mustBe(t, err, bridge.ErrHandle)
	_, err = left.Info()
	must(t, err)
	must(t, left.Close())
}

func TestClose_OnceForManyCallers(t *testing.T) {
	h := newHost(keepGoing)
	e := openFake(t, h)
	m := load(t, e, "main:", "thread:")
	for range 100 {
		d, err := m.NewDomain(bridge.DomainConfig{})
		must(t, err)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	stats, err := e.Stats()
	must(t, err)
	equal(t, "stats", stats, bridge.Stats{Modules: 1})
}

func TestStats_CountsWhatIsThere(t *testing.T) {
	h := newHost(keepGoing)
	e := openFake(t, h)
	d := start(t, e, "main:", "block", "thread:", "block")
	_, err := d.SpawnThread(0)
	must(t, err)
	stats, err := e.Stats()
	must(t, err)
	equal(t, "stats", stats, bridge.Stats{ThreadsRunning: 2, Domains: 1, Modules: 1})
	finish(t, h, d)
}

func TestEnsureGoThreads_RaisesAndNeverLowers(t *testing.T) {
	old := debug.SetMaxThreads(20_000)
	defer debug.SetMaxThreads(old)
	limit := func() int {
		n := debug.SetMaxThreads(1 << 30)
		debug.SetMaxThreads(n)
		return n
	}
	bridge.EnsureGoThreads(30_000)
	equal(t, "limit", limit(), 30_000)
	for _, n := range []int{25_000, 0, -1} {
		bridge.EnsureGoThreads(n)
		equal(t, "limit", limit(), 30_000)
	}
	openFake(t, newHost(keepGoing), func(c *bridge.Config) { c.MaxThreads = 50_000 })
	if got := limit(); got <= 50_000 {
		t.Errorf("limit is %d after Open with 50,000 threads", got)
	}
}
