package soak

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/internal/leakcheck"
)

// rest is what there is when no cage is left.
type rest struct {
	holds      leakcheck.Holdings
	goroutines int
	stats      lindbridge.Stats
}

// slack is what the runtimes of Go and C may keep more than after the warm-up: threads of Go's own, and their heaps in
// pieces. A cage that leaks holds a mapping or more, so that a leak of one in a thousand shows within seconds.
var slack = leakcheck.Slack{Threads: 12, Mappings: 512, Resident: 192 << 20}

// moreGoroutines are the goroutines that may come later: a timer's, the runtime's.
const moreGoroutines = 4

// takeRest is what there is now.
func (s *soak) takeRest() (*rest, error) {
	holds, err := leakcheck.Take()
	if err != nil {
		return nil, err
	}
	stats, err := s.rt.Stats()
	return &rest{holds, runtime.NumGoroutine(), stats}, err
}

// compareRest holds what there is against what there was.
func (s *soak) compareRest(before *rest) error {
	s.check.Rest()
	more, err := before.holds.Settled(slack)
	if err != nil {
		return err
	}
	now, err := s.rt.Stats()
	if err != nil {
		return err
	}
	for _, text := range left(before, now, runtime.NumGoroutine()) {
		more = strings.TrimPrefix(more+"; "+text, "; ")
	}
	if more != "" {
		s.object(&Violation{Invariant: "rest", Text: "left behind: " + more})
	}
	s.count.change(func(f *Figures) { f.Rests++ })
	return nil
}

// left is what the runtime holds that it should not when no cage is left.
func left(before *rest, now lindbridge.Stats, goroutines int) []string {
	var out []string
	more := func(what string, n, was uint64) {
		if n > was {
			out = append(out, fmt.Sprintf("%d %s, %d before", n, what, was))
		}
	}
	more("cages", uint64(now.Cages), 0)
	more("ids", uint64(now.IDs), 0)
	more("handler rows", uint64(now.HandlerRows), 0)
	more("domains", now.Domains, 0)
	more("threads of guests", now.ThreadsRunning, 0)
	more("calls of grates that are late", uint64(now.LateCalls), 0)
	more("modules", now.Modules, before.stats.Modules)
	more("open files", uint64(now.OpenFiles), uint64(before.stats.OpenFiles))
	if goroutines > before.goroutines+moreGoroutines {
		more("goroutines", uint64(goroutines), uint64(before.goroutines))
		var stacks strings.Builder
		if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err == nil {
			out = append(out, stacks.String())
		}
	}
	return out
}

// errPatience is what is wrong when something does not end.
var errPatience = errors.New("it does not end")

// drain ends all residents, and waits until the threads that were counted out have gone.
func (s *soak) drain() error {
	s.crowd.want.Store(0)
	a := &actor{soak: s, plan: Plan{Who: Who{-1, 0}, Signal: 9}}
	for _, r := range s.crowd.all() {
		r.cage.Kill()
	}
	for _, r := range s.crowd.take() {
		a.finishResident(r)
	}
	deadline := time.Now().Add(s.cfg.Patience)
	for {
		stats, err := s.rt.Stats()
		if err != nil || stats.ThreadsRunning == 0 && stats.Domains == 0 && stats.LateCalls == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return nil // compareRest says what is left
		}
		<-time.After(time.Millisecond) // nothing tells when a thread that was counted out has woken
	}
}
