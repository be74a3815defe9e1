package fdtables_test

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lindbridge/lindbridge/abi"
	"github.com/lindbridge/lindbridge/fdtables"
)

const (
	pollIn   = 0x1
	pollOut  = 0x4
	pollErr  = 0x8
	pollHup  = 0x10
	pollNval = 0x20
)

// drawTable is a table in which few underfds of a few kinds stand at many numbers, some of them closed.
func drawTable(t *rapid.T) (*fdtables.Tables, *fdtables.Table) {
	ts := fdtables.New(fdtables.Config{})
	tab, err := ts.Init(2)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range rapid.SliceOfDistinct(rapid.IntRange(0, 200), rapid.ID[int]).Draw(t, "open") {
		kind := rapid.SampledFrom([]fdtables.Kind{0, 1, 1000}).Draw(t, "kind")
		under := rapid.SampledFrom([]uint64{0, 1, 2, 63, 64, 500, 1 << 19, 1 << 20, 1 << 40}).Draw(t, "underfd")
		if err := tab.OpenAt(fdtables.FD(fd), kind, under, false, uint64(fd)); err != nil {
			t.Fatal(err)
		}
	}
	return ts, tab
}

// drawFD is a descriptor that may be open.
func drawFD(t *rapid.T, tab *fdtables.Table) fdtables.FD {
	all := tab.Snapshot()
	if len(all) > 0 && rapid.IntRange(0, 3).Draw(t, "which") > 0 {
		return rapid.SampledFrom(all).Draw(t, "fd").FD
	}
	return fdtables.FD(rapid.SampledFrom([]int{-1, 0, 7, 199, 201, 1 << 20, -1 << 31}).Draw(t, "any fd"))
}

// inFlight is how many I/Os are in flight in all.
func inFlight(ts *fdtables.Tables, tab *fdtables.Table) (n uint64) {
	seen := map[pair]bool{}
	for _, f := range tab.Snapshot() {
		if p := pairOf(f.Entry); !seen[p] {
			seen[p] = true
			_, io := ts.References(p.kind, p.underfd)
			n += io
		}
	}
	return n
}

func TestPoll_AsksForEachUnderFDOnceAndAnswersEveryDescriptor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ts, tab := drawTable(t)
		var p fdtables.Poll
		for range rapid.IntRange(1, 3).Draw(t, "polls") { // with what the one before left
			checkPoll(t, ts, tab, &p)
		}
	})
}

func checkPoll(t *rapid.T, ts *fdtables.Tables, tab *fdtables.Table, p *fdtables.Poll) {
	fds := make([]fdtables.PollFD, rapid.IntRange(0, 30).Draw(t, "length"))
	asked, has := map[pair]int16{}, map[pair]int16{}
	open := uint64(0)
	for i := range fds {
		fds[i] = fdtables.PollFD{FD: drawFD(t, tab), Events: rapid.Int16().Draw(t, "events"), Revents: -1}
		if e, errno := tab.Translate(fds[i].FD); errno == 0 {
			open++
			asked[pairOf(e)] |= fds[i].Events
			has[pairOf(e)] = rapid.Int16().Draw(t, "has")
		}
	}
	p.Translate(tab, fds)
	got := map[pair]int16{}
	var order []pair
	for _, k := range p.Kinds() {
		for i := range k.Under {
			u := pair{k.Kind, k.Under[i].UnderFD}
			got[u] = k.Under[i].Events
			order = append(order, u)
			k.Under[i].Revents = has[u]
		}
	}
	if !maps.Equal(got, asked) || len(order) != len(asked) {
		t.Fatalf("asks for %v, want %v", order, asked)
	}
	if !slices.IsSortedFunc(order, func(a, b pair) int {
		if a.kind != b.kind {
			return int(a.kind) - int(b.kind)
		}
		return slices.Compare([]uint64{a.underfd}, []uint64{b.underfd})
	}) {
		t.Fatalf("not in order: %v", order)
	}
	if n := inFlight(ts, tab); n != open {
		t.Fatalf("%d underfds are kept open, want %d", n, open)
	}
	n := p.Answer(fds)
	for i, f := range fds {
		e, errno := tab.Translate(f.FD)
		if kept, ok := p.Entry(i); kept != e || ok != (errno == 0) {
			t.Fatalf("Entry(%d) = %+v, %v, want %+v", i, kept, ok, e)
		}
		want := int16(0)
		switch {
		case errno == 0:
			want = has[pairOf(e)] & (f.Events | pollErr | pollHup | pollNval)
		case f.FD >= 0:
			want = pollNval
		}
		if f.Revents != want {
			t.Fatalf("%+v, want %#x", f, want)
		}
		if want != 0 {
			n--
		}
	}
	if n != 0 {
		t.Fatalf("the answer is wrong by %d", n)
	}
	p.Release()
	p.Release()
	if _, ok := p.Entry(0); ok || inFlight(ts, tab) != 0 {
		t.Fatal("something is held after Release")
	}
}

func TestPoll_KeepsWhatItAsksForOpen(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	c, tab := record(ts, pipeKind), newTable(t, ts, 2)
	open(t, tab, 1, 0)
	var p fdtables.Poll
	fds := []fdtables.PollFD{{FD: 0, Events: pollIn | pollOut}}
	p.Translate(tab, fds)
	wantErr(t, tab.Close(0), nil)
	open(t, tab, 2, 0) // another file by the same number
	wantCalls(t, c)
	p.Kinds()[0].Under[0].Revents = pollIn
	if n := p.Answer(fds); n != 1 || fds[0].Revents != pollIn {
		t.Fatalf("%d, %+v", n, fds)
	}
	p.Release()
	wantCalls(t, c, call{entry(1), 0})
}

// drawSet is a set of descriptors and its content. It may be nil.
func drawSet(t *rapid.T, tab *fdtables.Table, bad bool) fdtables.FDSet {
	if rapid.IntRange(0, 3).Draw(t, "nil") == 0 {
		return nil
	}
	set := make(fdtables.FDSet, rapid.IntRange(0, 4).Draw(t, "words"))
	for range rapid.IntRange(0, 20).Draw(t, "size") {
		fd := drawFD(t, tab)
		if _, errno := tab.Translate(fd); fd >= 0 && (errno == 0 || bad) {
			set.Add(uint64(fd))
		}
	}
	return set
}

func TestSelect_SplitsByKindsAndAnswersEveryDescriptor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ts, tab := drawTable(t)
		var s fdtables.Select
		for range rapid.IntRange(1, 3).Draw(t, "selects") {
			checkSelect(t, ts, tab, &s)
		}
	})
}

func checkSelect(t *rapid.T, ts *fdtables.Tables, tab *fdtables.Table, s *fdtables.Select) {
	bad := rapid.IntRange(0, 5).Draw(t, "bad") == 0
	var sets, was [3]fdtables.FDSet
	for i := range sets {
		sets[i] = drawSet(t, tab, bad)
		was[i] = slices.Clone(sets[i])
	}
	n := rapid.SampledFrom([]int{-1, 0, 1, 64, 65, 130, 200, 201, 256, 1 << 20, 1 << 40}).Draw(t, "n")
	kinds := rapid.SampledFrom([][]fdtables.Kind{nil, {0}, {1, 0}, {0, 1, 1000, 5}}).Draw(t, "kinds")

	// What each of the descriptors wants, and what each underfd wants in all and has.
	wants, wantUnder, has := map[fdtables.FD]fdtables.SelectEvents{}, map[pair]fdtables.SelectEvents{}, map[pair]fdtables.SelectEvents{}
	wantErrno := abi.Errno(0)
	if n < 0 {
		wantErrno = abi.EINVAL
	}
	for fd := range fdtables.FD(256) {
		for i, set := range sets {
			if !set.Has(uint64(fd)) || int(fd) >= n {
				continue
			}
			e, errno := tab.Translate(fd)
			if errno != 0 {
				wantErrno = abi.EBADF
				continue
			}
			wants[fd] |= 1 << i
			wantUnder[pairOf(e)] |= 1 << i
			has[pairOf(e)] = fdtables.SelectEvents(rapid.IntRange(0, 7).Draw(t, "has"))
		}
	}
	errno := s.Translate(tab, n, sets[0], sets[1], sets[2], kinds...)
	if errno != wantErrno {
		t.Fatalf("Translate = %v, want %v", errno, wantErrno)
	}
	if errno != 0 {
		if inFlight(ts, tab) != 0 || len(s.Kinds())+len(s.Unparsed()) != 0 {
			t.Fatal("something is held after an error")
		}
		return
	}
	if got := inFlight(ts, tab); got != uint64(len(wants)) {
		t.Fatalf("%d underfds are kept open, want %d", got, len(wants))
	}
	got := map[pair]fdtables.SelectEvents{}
	for i := range s.Kinds() {
		k := &s.Kinds()[i]
		if !slices.Contains(kinds, k.Kind) {
			t.Fatalf("kind %d was not asked for", k.Kind)
		}
		high := uint64(0)
		for j, set := range k.Sets {
			for u := range uint64(len(set)) * 64 {
				if set.Has(u) {
					p := pair{k.Kind, u}
					got[p] |= 1 << j
					high = max(high, u+1)
					if has[p]>>j&1 == 0 {
						set.Remove(u)
					}
				}
			}
		}
		if k.N != high {
			t.Fatalf("N is %d, want %d", k.N, high)
		}
	}
	for i := range s.Unparsed() {
		u := &s.Unparsed()[i]
		if slices.Contains(kinds, u.Entry.Kind) && u.Entry.UnderFD < fdtables.MaxLimit || u.Want != wants[u.FD] {
			t.Fatalf("unparsed: %+v", u)
		}
		got[pairOf(u.Entry)] |= u.Want
		u.Ready = has[pairOf(u.Entry)]
	}
	if !maps.Equal(got, wantUnder) {
		t.Fatalf("asks for %v, want %v", got, wantUnder)
	}
	count := s.Answer(sets[0], sets[1], sets[2])
	for fd := range fdtables.FD(256) {
		e, _ := tab.Translate(fd)
		for i, set := range sets {
			want := wants[fd]&has[pairOf(e)]>>i&1 != 0
			if int(fd) >= (n+63)/64*64 {
				want = was[i].Has(uint64(fd)) // as it was
			} else if want {
				count--
			}
			if set.Has(uint64(fd)) != want {
				t.Fatalf("fd %d in set %d: %v, want %v", fd, i, !want, want)
			}
		}
	}
	if count != 0 {
		t.Fatalf("the answer is wrong by %d", count)
	}
	s.Release()
	if inFlight(ts, tab) != 0 {
		t.Fatal("something is held after Release")
	}
}

func TestFDSet(t *testing.T) {
	s := make(fdtables.FDSet, 2)
	for _, n := range []uint64{0, 63, 64, 127, 128, 1 << 63} {
		s.Add(n)
		if s.Has(n) != (n < 128) {
			t.Errorf("Has(%d) = %v", n, s.Has(n))
		}
	}
	s.Remove(64)
	s.Remove(1 << 63)
	if s.Len() != 3 || s.Has(64) || !s.Has(127) {
		t.Errorf("%x has %d", s, s.Len())
	}
}

func TestWait_AllocatesNothingWhenUsedAgain(t *testing.T) {
	ts := fdtables.New(fdtables.Config{})
	tab := newTable(t, ts, 2)
	fds := make([]fdtables.PollFD, 500)
	set := make(fdtables.FDSet, 8)
	for i := range fdtables.FD(500) {
		if _, errno := tab.Open(fdtables.Kind(i%3), uint64(i*7%400), false, 0); errno != 0 {
			t.Fatal(errno)
		}
		fds[i] = fdtables.PollFD{FD: 499 - i, Events: pollIn}
	}
	var p fdtables.Poll
	var s fdtables.Select
	for name, call := range map[string]func(){
		"poll": func() { p.Translate(tab, fds); p.Answer(fds); p.Release() },
		"select": func() {
			for i := range uint64(500) {
				set.Add(i)
			}
			if errno := s.Translate(tab, 500, set, nil, set, 0, 1); errno != 0 {
				t.Fatal(errno)
			}
			if n := s.Answer(set, nil, set); n < 500 {
				t.Fatal(n)
			}
			s.Release()
		},
	} {
		if got := testing.AllocsPerRun(20, call); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}
