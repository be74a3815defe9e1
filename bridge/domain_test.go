package bridge_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/bridge"
)

func TestHostCall_PassesArgumentsAndResult(t *testing.T) {
	type key struct{ name string }
	user := &key{"mine"}
	h := newHost(nil)
	h.call = func(c *bridge.Call) bridge.Verdict {
		if c.User() != user || c.Domain().User() != user {
			t.Errorf("user is %v", c.User())
		}
		equal(t, "import", c.Import(), 7)
		equal(t, "argument 0", c.Arg(0), 1<<40)
		equal(t, "argument 1", c.Arg32(1), 0xfffffffe)
		equal(t, "argument 2", c.Arg(2), map[uint32]uint64{1: 0, 2: 33}[c.TID()])
		equal(t, "memory", c.Memory().Size(), 0)
		c.SetResult(c.Arg(0) + 5)
		return bridge.Continue
	}
	e := openFake(t, h)
	m := load(t, e, "main:", "call 7 3 0x10000000000 0xfffffffe arg", "expect 0x10000000005",
		"thread:", "call 7 1 0x10000000000 0xfffffffe arg", "expect 0x10000000005")
	d := newDomain(t, m, bridge.DomainConfig{User: user})
	must(t, d.Start("_start"))
	equal(t, "outcome", h.end(t).Outcome, bridge.EndReturned)
	tid, err := d.SpawnThread(33)
	must(t, err)
	equal(t, "tid", tid, 2)
	end := h.end(t)
	equal(t, "outcome: "+end.Message, end.Outcome, bridge.EndReturned)
	if r := finish(t, h, d); r.User != user || r.Domain != d {
		t.Errorf("report of %v", r.User)
	}
}

func TestHostCall_SeesTheGuestsMemory(t *testing.T) {
	h := newHost(func(c *bridge.Call) bridge.Verdict {
		m := c.Memory()
		if m.Size() != 2<<16 {
			return bridge.TrapThread
		}
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], 0x1122334455667788)
		if !m.WriteCopy(4096, word[:]) || m.WriteCopy(m.Size()-7, word[:]) {
			return bridge.TrapThread
		}
		return bridge.Continue
	})
	e := openFake(t, h)
	d := start(t, e, "memory 2", "main:", "call 1 1", "load 4096", "expect 0x1122334455667788")
	end := h.end(t)
	equal(t, "outcome: "+end.Message, end.Outcome, bridge.EndReturned)
	m, err := d.Memory()
	must(t, err)
	if v, ok := m.ReadUint64(4096); !ok || v != 0x1122334455667788 {
		t.Errorf("the domain's memory has %#x", v)
	}
	finish(t, h, d)
}

// trapped is the end of a thread of the fake shim that trapped.
func trapped(message string) bridge.ThreadEnd {
	return bridge.ThreadEnd{Outcome: bridge.EndTrapped, TrapCode: 9, Message: message, Backtrace: "inner\nouter"}
}

func TestThreadEnd_TellsOutcomeAndText(t *testing.T) {
	verdict := map[uint32]bridge.Verdict{1: bridge.QuitThread, 2: bridge.TrapThread}
	h := newHost(func(c *bridge.Call) bridge.Verdict { return verdict[c.Import()] })
	e := openFake(t, h)
	for _, tt := range []struct {
		line string
		want bridge.ThreadEnd
	}{
		{"", bridge.ThreadEnd{Outcome: bridge.EndReturned}},
		{"call 1 5", bridge.ThreadEnd{Outcome: bridge.EndQuit}},
		{"call 2 5", trapped("host call failed")},
		{"trap über", trapped("über")},
		{"fail", bridge.ThreadEnd{Outcome: bridge.EndStartFailed, Message: "the start failed"}},
	} {
		for _, other := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/other=%t", tt.want.Outcome, other), func(t *testing.T) {
				want := tt.want
				want.User, want.TID, want.Main = t.Name(), 1, true
				var d *bridge.Domain
				if other {
					d = start(t, e, "main:", "thread:", tt.line)
					h.end(t)
					_, err := d.SpawnThread(0)
					must(t, err)
					want.TID, want.Main = 2, false
				} else {
					d = start(t, e, "main:", tt.line)
				}
				want.Domain = d
				end := h.end(t)
				equal(t, "end", end, want)
				finish(t, h, d)
			})
		}
	}
}

func TestStop_EndsThreadsAndReportsWhereTheyWere(t *testing.T) {
	inCall := make(chan struct{})
	h := newHost(nil)
	h.call = func(c *bridge.Call) bridge.Verdict {
		fd, err := c.Domain().CancelFD()
		if err != nil {
			t.Error(err)
			return bridge.TrapThread
		}
		close(inCall)
		if err := poll(fd); err != nil {
			t.Error(err)
		}
		return bridge.Continue
	}
	e := openFake(t, h)
	must(t, e.Define([]bridge.Import{{Module: "wasi", Name: "fd_read", ID: 4}}))
	must(t, e.Define([]bridge.Import{{Module: "wasi", Name: "fd_write", ID: 5}}))
	before := bridge.MonotonicNow()
	d := start(t, e, "main:", "block", "thread:", "call 4 1")
	_, err := d.SpawnThread(0)
	must(t, err)
	<-inCall
	waitFor(t, d, func(s bridge.ThreadState) bool { return s.TID == 1 && s.At == bridge.AtAtomicWait })

	live, err := d.Threads()
	must(t, err)
	equal(t, "threads", len(live), 2)
	r := finish(t, h, d)
	after := bridge.MonotonicNow()
	equal(t, "threads in the report", len(r.Threads), 2)
	equal(t, "threads ever", r.ThreadsTotal, 2)
	slices.SortFunc(r.Threads, func(a, b bridge.ThreadState) int { return int(a.TID) - int(b.TID) })
	equal(t, "thread 1", r.Threads[0].String(), "thread 1: atomic wait at 0x40; stopped in work")
	equal(t, "thread 2", r.Threads[1].String(), "thread 2: host call fd_read; stopped in work")
	equal(t, "import", r.Threads[1].Import, 4)
	for _, s := range r.Threads {
		if s.Since < before || s.Since > r.Stopped || s.Left < r.Stopped || s.Left > r.Quiescent || s.Left > after {
			t.Errorf("times of %v: since %v, left %v; stopped %v, quiescent %v",
				s, s.Since, s.Left, r.Stopped, r.Quiescent)
		}
	}
	if r.Took() < 0 || r.Took() > after-before {
		t.Errorf("it took %v", r.Took())
	}
	equal(t, "ends of stopped threads", len(h.ends), 0)
}

// poll waits until one of the descriptors is readable.
func poll(fds ...int) error {
	var list []unix.PollFd
	for _, fd := range fds {
		list = append(list, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for {
		n, err := unix.Poll(list, int(patience/time.Millisecond))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = errors.New("nothing came")
		}
		return err
	}
}

// waitFor asks where a domain's threads are until one is as wanted: the shim gives no event for that.
func waitFor(tb testing.TB, d *bridge.Domain, want func(bridge.ThreadState) bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		list, err := d.Threads()
		must(tb, err)
		if slices.ContainsFunc(list, want) {
			return
		}
	}
	tb.Fatal("no thread came to be where it was to be")
}

func TestStop_OfADomainWithoutThreadsReportsBeforeItReturns(t *testing.T) {
	h := newHost(keepGoing)
	e := openFake(t, h)
	d := newDomain(t, load(t, e, "main:"), bridge.DomainConfig{})
	must(t, d.Stop())
	select {
	case r := <-h.quiescent:
		equal(t, "threads", len(r.Threads), 0)
	default:
		t.Fatal("Stop returned without a report")
	}
	must(t, d.Stop())
	equal(t, "reports", len(h.quiescent), 0)
}

func TestHandler_MayStopSpawnAndClose(t *testing.T) {
	h := newHost(nil)
	h.call = func(c *bridge.Call) bridge.Verdict {
		if _, err := c.Domain().SpawnThread(1); err != nil {
			t.Error(err)
		}
		return bridge.Continue
	}
	h.onEnd = func(e *bridge.ThreadEnd) {
		if e.Main {
			if err := e.Domain.Stop(); err != nil {
				t.Error(err)
			}
			if err := e.Domain.Close(); !errors.Is(err, bridge.ErrBusy) {
				t.Errorf("closing a domain that is not quiescent: %v", err)
			}
		}
	}
	h.onQuiet = func(r *bridge.Report) {
		if err := r.Domain.Close(); err != nil {
			t.Error(err)
		}
	}
	e := openFake(t, h)
	d := start(t, e, "main:", "call 1 3", "thread:", "block")
	r := h.quiet(t)
	equal(t, "threads", r.ThreadsTotal, 4)
	mustBe(t, d.Start("_start"), bridge.ErrHandle)
	stats, err := e.Stats()
	must(t, err)
	equal(t, "domains", stats.Domains, 0)
}

func TestSpawnThread_SaysWhyNot(t *testing.T) {
	h := newHost(keepGoing)
	e := openFake(t, h, func(c *bridge.Config) { c.MaxThreads = 4 })
	none := start(t, e, "main:", "block")
	_, err := none.SpawnThread(0)
	mustBe(t, err, bridge.ErrExport)
	mustBe(t, none.Start("_start"), bridge.ErrBusy)

	m := load(t, e, "main:", "block", "thread:", "block")
	d := newDomain(t, m, bridge.DomainConfig{MaxThreads: 2})
	mustBe(t, d.Start("main"), bridge.ErrExport)
	must(t, d.Start("_start"))
	_, err = d.SpawnThread(0)
	must(t, err)
	_, err = d.SpawnThread(0)
	mustBe(t, err, bridge.ErrLimit)
	contains(t, err.Error(), "the domain's thread limit")

	other := newDomain(t, m, bridge.DomainConfig{})
	must(t, other.Start("_start"))
	_, err = other.SpawnThread(0)
	mustBe(t, err, bridge.ErrLimit)
	contains(t, err.Error(), "the engine's thread limit")

	_, err = load(t, e, "memory 2", "main:").NewDomain(bridge.DomainConfig{MaxMemoryBytes: 1 << 16})
	mustBe(t, err, bridge.ErrMemory)
	for _, d := range []*bridge.Domain{none, d, other} {
		finish(t, h, d)
	}
}

func TestThreads_ListsAllHoweverMany(t *testing.T) {
	h := newHost(keepGoing)
	e := openFake(t, h)
	d := start(t, e, "main:", "block", "thread:", "block")
	for range 49 {
		_, err := d.SpawnThread(0)
		must(t, err)
	}
	list, err := d.Threads()
	must(t, err)
	seen := make(map[uint32]bool)
	for _, s := range list {
		seen[s.TID] = true
	}
	equal(t, "threads", len(seen), 50)
	finish(t, h, d)
}

func TestThreadData_BelongsToTheThreadUntilItsEnd(t *testing.T) {
	type data struct{ tid, calls uint32 }
	var made atomic.Uint32
	h := newHost(nil)
	h.call = func(c *bridge.Call) bridge.Verdict {
		v, ok := c.ThreadData().(*data)
		if !ok {
			if c.ThreadData() != nil {
				t.Errorf("data of another's: %v", c.ThreadData())
			}
			made.Add(1)
			v = &data{tid: c.TID()}
			c.SetThreadData("overwritten")
			c.SetThreadData(v)
		}
		v.calls++
		if v.tid != c.TID() {
			t.Errorf("thread %d has the data of %d", c.TID(), v.tid)
		}
		return bridge.Continue
	}
	e := openFake(t, h)
	const threads, calls = 64, 100
	d := start(t, e, "main:", fmt.Sprintf("call 1 %d", calls), "thread:", fmt.Sprintf("call 1 %d", calls))
	var wg sync.WaitGroup
	for range threads - 1 {
		wg.Go(func() {
			if _, err := d.SpawnThread(0); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for range threads {
		end := h.end(t)
		v, ok := end.ThreadData.(*data)
		if !ok || v.tid != end.TID || v.calls != calls {
			t.Errorf("thread %d ends with %v", end.TID, end.ThreadData)
		}
	}
	equal(t, "made", made.Load(), threads)
	finish(t, h, d)
}

func TestHostCall_WithForgedWordsFindsNothing(t *testing.T) {
	h := newHost(func(c *bridge.Call) bridge.Verdict {
		if c.Import() == 1 {
			t.Error("a call without a domain reached the handler")
		}
		if c.Import() == 2 && c.ThreadData() != nil {
			t.Errorf("a forged word finds %v", c.ThreadData())
		}
		c.SetThreadData("own")
		return bridge.Continue
	})
	e := openFake(t, h)
	for _, word := range []string{"0", "0xffffffffffffffff", "0x100000000", "0x1ffffffff", "0xffffffff00000000"} {
		d := start(t, e, "main:", "forge "+word, "call 1 1")
		equal(t, "outcome", h.end(t).Outcome, bridge.EndQuit)
		finish(t, h, d)
		d = start(t, e, "main:", "forge-thread "+word, "call 2 1", "call 3 1")
		end := h.end(t)
		equal(t, "data", end.ThreadData, "own")
		equal(t, "outcome", end.Outcome, bridge.EndReturned)
		finish(t, h, d)
	}
}

func TestHandle_NamesNoOtherDomain(t *testing.T) {
	e := openFake(t, newHost(keepGoing))
	m := load(t, e, "main:")
	seen := make(map[uint64]bool)
	for range 100 {
		d := newDomain(t, m, bridge.DomainConfig{})
		if seen[d.Handle()] {
			t.Fatalf("handle %#x came again", d.Handle())
		}
		seen[d.Handle()] = true
		must(t, d.Close())
	}
}
