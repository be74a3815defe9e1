package wasip1_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/threei"
	"github.com/lindbridge/lindbridge/wasip1"
)

// sub is a subscription: of a clock if tag is 0, of a descriptor if it is 1 (read) or 2 (write).
type sub struct {
	tag      byte
	fd       uint32
	clock    uint32
	timeout  uint64
	absolute bool
}

const (
	subsAt   = 0x1000
	eventsAt = 0x8000
	countAt  = 0x80
)

// subscribe writes subscriptions with 100, 101 ... as their userdata.
func (g *guest) subscribe(subs ...sub) uint64 {
	for i, s := range subs {
		b := g.mem[subsAt+48*i : subsAt+48*(i+1)]
		clear(b)
		le.PutUint64(b, uint64(100+i))
		b[8] = s.tag
		if s.tag != 0 {
			le.PutUint32(b[16:], s.fd)
			continue
		}
		le.PutUint32(b[16:], s.clock)
		le.PutUint64(b[24:], s.timeout)
		le.PutUint64(b[32:], 12345) // precision, which nobody looks at
		if s.absolute {
			le.PutUint16(b[40:], 1)
		}
	}
	return uint64(len(subs))
}

// poll is poll_oneoff of subs, and its events as text: userdata, type, then errno, bytes and flags if there are.
func (g *guest) poll(subs ...sub) (string, wasip1.Errno) {
	n := g.subscribe(subs...)
	clear(g.mem[eventsAt : eventsAt+32*n])
	if errno := g.call("poll_oneoff", subsAt, eventsAt, n, countAt); errno != 0 {
		return "", errno
	}
	var out []string
	for i := range uint64(g.u32(countAt)) {
		at := eventsAt + 32*i
		s := fmt.Sprintf("%d %s", g.u64(at), [3]string{"clock", "read", "write"}[g.mem[at+10]])
		if errno := wasip1.Errno(g.u16(at + 8)); errno != 0 {
			s += " " + errno.Error()
		}
		if n := g.u64(at + 16); n != 0 {
			s += fmt.Sprintf(" %dB", n)
		}
		if flags := g.u16(at + 24); flags != 0 {
			s += fmt.Sprintf(" flags %d", flags)
		}
		out = append(out, s)
	}
	return strings.Join(out, "; "), 0
}

// fakePoll is a native layer with two clocks and descriptors that are ready as it says.
type fakePoll struct {
	realtime, monotonic uint64
	revents             map[uint32]uint16 // by descriptor
	fionread            map[uint32]int32
	regular             map[uint32]uint64 // size of regular files; they are all at offset 10
	waits               []string
	onWait              func(timeout uint64) // before a wait with nothing ready returns
}

func (f *fakePoll) serve(_ *threei.Thread, call abi.Call, a *threei.Args) int64 {
	switch call {
	case abi.CallClockGettime:
		now := f.realtime
		if a.Val[0] == 1 {
			now = f.monotonic
		}
		ts := host(a.Val[1], 16)
		le.PutUint64(ts, now/1e9)
		le.PutUint64(ts[8:], now%1e9)
	case abi.CallPpoll:
		return f.ppoll(a)
	case abi.CallFstat:
		st := host(a.Val[1], 144)
		clear(st)
		if size, ok := f.regular[uint32(a.Val[0])]; ok {
			le.PutUint32(st[24:], unix.S_IFREG)
			le.PutUint64(st[48:], size)
		}
	case abi.CallLseek:
		return 10
	case abi.CallIoctl:
		n, ok := f.fionread[uint32(a.Val[0])]
		if !ok {
			return abi.ENOTTY.Result()
		}
		le.PutUint32(host(a.Val[2], 4), uint32(n))
	}
	return 0
}

func (f *fakePoll) ppoll(a *threei.Args) int64 {
	ready := int64(0)
	for i := range a.Val[1] {
		b := host(a.Val[0]+8*i, 8)
		got := f.revents[le.Uint32(b)] & (le.Uint16(b[4:]) | unix.POLLERR | unix.POLLHUP | unix.POLLNVAL)
		le.PutUint16(b[6:], got)
		if got != 0 {
			ready++
		}
	}
	timeout := uint64(1<<64 - 1)
	if a.Val[2] == 0 {
		f.waits = append(f.waits, "ever")
	} else {
		ts := host(a.Val[2], 16)
		timeout = le.Uint64(ts)*1e9 + le.Uint64(ts[8:])
		f.waits = append(f.waits, fmt.Sprint(timeout))
	}
	if ready == 0 {
		f.realtime += timeout
		f.monotonic += timeout
		if f.onWait != nil {
			f.onWait(timeout)
		}
	}
	return ready
}

func (f *fakePoll) take() string {
	s := strings.Join(f.waits, " ")
	f.waits = nil
	return s
}

func newPollGuest(t *testing.T) (*fakePoll, *recorder, *guest) {
	r, g := newRecorder(t, wasip1.EnvConfig{})
	f := &fakePoll{realtime: 1_000_000, monotonic: 5_000}
	r.answer = f.serve
	return f, r, g
}

func TestPollOneoff_WaitsAndReports(t *testing.T) {
	for _, tt := range []struct {
		name   string
		subs   []sub
		setup  func(f *fakePoll)
		waits  string
		events string
	}{
		{"relative monotonic", []sub{{clock: 1, timeout: 1_500_000_007}}, nil, "1500000007", "100 clock"},
		{"relative realtime", []sub{{clock: 0, timeout: 7}}, nil, "7", "100 clock"},
		{"no time at all", []sub{{clock: 1}}, nil, "0", "100 clock"},
		{"absolute monotonic", []sub{{clock: 1, timeout: 5_800, absolute: true}}, nil, "800", "100 clock"},
		{"absolute monotonic, past", []sub{{clock: 1, timeout: 4_999, absolute: true}}, nil, "0", "100 clock"},
		{"absolute realtime", []sub{{clock: 0, timeout: 1_000_009, absolute: true}}, nil, "9", "100 clock"},
		{"absolute realtime, past", []sub{{clock: 0, timeout: 1, absolute: true}}, nil, "0", "100 clock"},
		{
			"the shortest of several",
			[]sub{
				{clock: 1, timeout: 500},
				{clock: 0, timeout: 300},
				{clock: 1, timeout: 5_300, absolute: true},
				{clock: 1, timeout: 301},
			},
			nil, "300", "101 clock; 102 clock",
		},
		{
			"all four kinds at once",
			[]sub{
				{clock: 1, timeout: 5},
				{timeout: 5},
				{clock: 1, timeout: 5_005, absolute: true},
				{timeout: 1_000_005, absolute: true},
			},
			nil, "5", "100 clock; 101 clock; 102 clock; 103 clock",
		},
		{"for ever, almost", []sub{{clock: 1, timeout: 1<<64 - 1}, {tag: 1, fd: 5}}, func(f *fakePoll) {
			f.revents = map[uint32]uint16{5: unix.POLLIN}
			f.fionread = map[uint32]int32{5: 3}
		}, "4611686018427387904", "101 read 3B"},
		{"pipe with data", []sub{{tag: 1, fd: 5}}, func(f *fakePoll) {
			f.revents = map[uint32]uint16{5: unix.POLLIN}
			f.fionread = map[uint32]int32{5: 42}
		}, "ever", "100 read 42B"},
		{"pipe with data and no writer", []sub{{tag: 1, fd: 5}}, func(f *fakePoll) {
			f.revents = map[uint32]uint16{5: unix.POLLIN | unix.POLLHUP}
			f.fionread = map[uint32]int32{5: 42}
		}, "ever", "100 read 42B flags 1"},
		{"pipe without writer", []sub{{tag: 1, fd: 5}}, func(f *fakePoll) {
			f.revents = map[uint32]uint16{5: unix.POLLHUP}
			f.fionread = map[uint32]int32{5: 0}
		}, "ever", "100 read flags 1"},
		{"pipe without reader", []sub{{tag: 2, fd: 5}}, func(f *fakePoll) {
			f.revents = map[uint32]uint16{5: unix.POLLERR | unix.POLLOUT}
		}, "ever", "100 write 1B flags 1"},
		{"listening socket", []sub{{tag: 1, fd: 5}}, func(f *fakePoll) {
			f.revents = map[uint32]uint16{5: unix.POLLIN}
		}, "ever", "100 read 1B"},
		{"regular file", []sub{{tag: 1, fd: 5}, {tag: 2, fd: 5}}, func(f *fakePoll) {
			f.revents = map[uint32]uint16{5: unix.POLLIN | unix.POLLOUT}
			f.regular = map[uint32]uint64{5: 1 << 40}
		}, "ever", fmt.Sprintf("100 read %dB; 101 write 1B", int64(1<<40-10))},
		{"regular file at its end", []sub{{tag: 1, fd: 5}}, func(f *fakePoll) {
			f.revents = map[uint32]uint16{5: unix.POLLIN | unix.POLLOUT}
			f.regular = map[uint32]uint64{5: 9}
		}, "ever", "100 read"},
		{"not open", []sub{{tag: 1, fd: 5}, {tag: 2, fd: 6}, {clock: 1, timeout: 1000}}, func(f *fakePoll) {
			f.revents = map[uint32]uint16{5: unix.POLLNVAL, 6: unix.POLLNVAL}
		}, "1000", "100 read wasi errno badf; 101 write wasi errno badf"},
		{
			"no descriptor at all, which Linux passes over",
			[]sub{{tag: 1, fd: 1<<32 - 1}, {tag: 2, fd: 7}, {tag: 2, fd: 1 << 31}, {clock: 1, timeout: 9}},
			func(f *fakePoll) { f.revents = map[uint32]uint16{7: unix.POLLOUT} },
			"0", "100 read wasi errno badf; 101 write 1B; 102 write wasi errno badf",
		},
		{"one of three", []sub{{tag: 1, fd: 5}, {tag: 1, fd: 6}, {tag: 2, fd: 6}}, func(f *fakePoll) {
			f.revents = map[uint32]uint16{6: unix.POLLIN}
			f.fionread = map[uint32]int32{6: 1}
		}, "ever", "101 read 1B"},
		{"descriptor and a clock that is due", []sub{{clock: 1}, {tag: 2, fd: 6}}, func(f *fakePoll) {
			f.revents = map[uint32]uint16{6: unix.POLLOUT}
		}, "0", "100 clock; 101 write 1B"},
		{"descriptor first", []sub{{clock: 1, timeout: 10}, {tag: 2, fd: 6}}, func(f *fakePoll) {
			f.revents = map[uint32]uint16{6: unix.POLLOUT}
		}, "10", "101 write 1B"},
		{"clock first", []sub{{tag: 2, fd: 6}, {clock: 1, timeout: 10}}, nil, "10", "101 clock"},
		{"realtime clock set back while waiting", []sub{{timeout: 1_000_100, absolute: true}}, func(f *fakePoll) {
			f.onWait = func(uint64) {
				f.realtime -= 40
				f.onWait = nil
			}
		}, "100 40", "100 clock"},
		{"set back, and a relative time", []sub{{timeout: 1_000_100, absolute: true}, {clock: 1, timeout: 130}}, func(f *fakePoll) {
			f.onWait = func(uint64) {
				f.realtime -= 40
				f.onWait = nil
			}
		}, "100 30", "101 clock"},
		{"set forward, and a relative time", []sub{{timeout: 1_000_100, absolute: true}, {clock: 1, timeout: 50}}, func(f *fakePoll) {
			f.onWait = func(uint64) { f.realtime += 1000 }
		}, "50", "100 clock; 101 clock"},
	} {
		f, r, g := newPollGuest(t)
		if tt.setup != nil {
			tt.setup(f)
		}
		events, errno := g.poll(tt.subs...)
		if errno != 0 || events != tt.events {
			t.Errorf("%s: %v, events %q, want %q", tt.name, errno, events, tt.events)
		}
		if waits := f.take(); waits != tt.waits {
			t.Errorf("%s: waited %q, want %q", tt.name, waits, tt.waits)
		}
		if calls := r.take(); strings.Contains(calls, "BAD") {
			t.Errorf("%s: system calls %s", tt.name, calls)
		}
	}
}

func TestPollOneoff_ARelativeSleepIsOneSystemCall(t *testing.T) {
	_, r, g := newPollGuest(t)
	if _, errno := g.poll(sub{clock: 1, timeout: 2_000_000_003}); errno != 0 {
		t.Fatal(errno)
	}
	if got, want := r.take(), "ppoll({}, 0, 2.000000003, 0, 0)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestPollOneoff_PassesPollfdsInOrder(t *testing.T) {
	f, r, g := newPollGuest(t)
	f.revents = map[uint32]uint16{6: unix.POLLOUT}
	if _, errno := g.poll(sub{tag: 1, fd: 5}, sub{clock: 1, timeout: 9}, sub{tag: 2, fd: 6}, sub{tag: 1, fd: 6}); errno != 0 {
		t.Fatal(errno)
	}
	if got, want := r.take(), "ppoll({5:0x1 6:0x4 6:0x1}, 3, 0.000000009, 0, 0)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestPollOneoff_RefusesWhatMakesNoSense(t *testing.T) {
	f, r, g := newPollGuest(t)
	for name, subs := range map[string][]sub{
		"process clock": {{clock: 2, timeout: 1}},
		"thread clock":  {{clock: 3, timeout: 1}},
		"no clock":      {{clock: 1 << 31, timeout: 1}},
		"no type":       {{clock: 1}, {tag: 3}},
	} {
		if _, errno := g.poll(subs...); errno != wasip1.ErrnoInval {
			t.Errorf("%s: %v, want inval", name, errno)
		}
	}
	g.subscribe(sub{clock: 1, timeout: 1})
	le.PutUint16(g.mem[subsAt+40:], 2) // a flag that does not exist
	g.want(wasip1.ErrnoInval, "poll_oneoff", subsAt, eventsAt, 1, countAt)
	g.want(wasip1.ErrnoInval, "poll_oneoff", subsAt, eventsAt, 0, countAt)
	g.want(wasip1.ErrnoInval, "poll_oneoff", subsAt, eventsAt, 16385, countAt)
	g.want(wasip1.ErrnoInval, "poll_oneoff", subsAt, eventsAt, 1<<32-1, countAt)
	if f.take() != "" {
		t.Errorf("waited: %s", r.take())
	}
}

func TestPollOneoff_TakesManySubscriptions(t *testing.T) {
	const n = 1500 // as many as the test's memory has room for
	f, r, g := newPollGuest(t)
	r.record = false
	f.revents = map[uint32]uint16{}
	for i := range uint64(n) {
		b := g.mem[subsAt+48*i:]
		le.PutUint64(b, i)
		b[8] = 2
		le.PutUint32(b[16:], uint32(i))
		if i%3 == 0 {
			f.revents[uint32(i)] = unix.POLLOUT
		}
	}
	const out = subsAt + 48*n
	g.ok("poll_oneoff", subsAt, out, n, countAt)
	if g.u32(countAt) != n/3 {
		t.Fatalf("%d events, want %d", g.u32(countAt), n/3)
	}
	for i := range uint64(n / 3) {
		if got := g.u64(out + 32*i); got != 3*i {
			t.Fatalf("event %d is of %d, want %d", i, got, 3*i)
		}
	}
}

// TestPollOneoff_UsesItsCopyOfTheSubscriptions: the guest changes them all while the call waits, and its events lie over
// them too.
func TestPollOneoff_UsesItsCopyOfTheSubscriptions(t *testing.T) {
	f, r, g := newPollGuest(t)
	r.record = false
	f.onWait = func(uint64) {
		for i := range g.mem[subsAt : subsAt+0x1000] {
			g.mem[subsAt+i] = 0xff
		}
	}
	n := g.subscribe(sub{clock: 1, timeout: 5}, sub{tag: 1, fd: 5}, sub{clock: 1, timeout: 5})
	g.ok("poll_oneoff", subsAt, subsAt, n, countAt)
	if g.u32(countAt) != 2 || g.u64(subsAt) != 100 || g.u64(subsAt+32) != 102 {
		t.Errorf("%d events, % x", g.u32(countAt), g.mem[subsAt:subsAt+64])
	}
}

func TestPollOneoff_EndsWhenTheCageStops(t *testing.T) {
	f, r, g := newPollGuest(t)
	r.record = false
	r.answer = func(th *threei.Thread, call abi.Call, a *threei.Args) int64 {
		if call == abi.CallPpoll {
			f.ppoll(a)
			return 1 // ready, it says, but nothing is
		}
		return f.serve(th, call, a)
	}
	g.thread.Cancel = canceler{stopping: func() bool { return len(f.waits) == 9 }}
	if _, errno := g.poll(sub{tag: 1, fd: 5}); errno != wasip1.ErrnoIntr {
		t.Errorf("%v, want intr", errno)
	}
	r.answer = answers(abi.EINTR.Result())
	g.thread.Cancel = canceler{}
	if _, errno := g.poll(sub{tag: 1, fd: 5}); errno != wasip1.ErrnoIntr {
		t.Errorf("%v, want intr", errno)
	}
	r.answer = answers(2)
	if _, errno := g.poll(sub{tag: 1, fd: 5}); errno != wasip1.ErrnoIO {
		t.Errorf("two of one descriptors ready: %v, want io", errno)
	}
}

func TestPollOneoff_PassesErrorsOn(t *testing.T) {
	for _, at := range []abi.Call{abi.CallPpoll, abi.CallClockGettime} {
		for _, s := range []sub{{clock: 1, timeout: 9, absolute: true}, {clock: 0, timeout: 9, absolute: true}} {
			f, r, g := newPollGuest(t)
			r.answer = func(th *threei.Thread, call abi.Call, a *threei.Args) int64 {
				if call == at {
					return abi.ENOMEM.Result()
				}
				return f.serve(th, call, a)
			}
			if _, errno := g.poll(s); errno != wasip1.ErrnoNomem {
				t.Errorf("%v fails: %v, want nomem", at, errno)
			}
		}
	}
}
