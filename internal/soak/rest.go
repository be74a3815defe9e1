package soak

import (
	"errors"
	"fmt"
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

// What may be more than after the warm-up and is no leak: goroutines of Go's own, a thread that is about to leave, and what
// the runtimes of Go and C keep of memory, in pieces, the more the more threads there were at once: a busy machine has more
// of them than the warm-up had. A cage that leaks holds a mapping or more, so that a leak of one in a hundred shows within
// minutes.
const (
	moreThreads    = 2
	moreMappings   = 1024
	moreResident   = 192 << 20
	moreGoroutines = 4
	// settling is how long what is given back may take to show: a thread that was joined leaves a moment later.
	settling = 10 * time.Second
)

// takeRest is what there is now.
func (s *soak) takeRest() (*rest, error) {
	holds, err := leakcheck.Take()
	if err != nil {
		return nil, err
	}
	stats, err := s.rt.Stats()
	return &rest{holds, goroutines(), stats}, err
}

// atRest is what the figures have of r.
func atRest(r *rest) AtRest {
	return AtRest{
		Threads: r.holds.Threads, Goroutines: r.goroutines, Descriptors: len(r.holds.FDs),
		Mappings: r.holds.Mappings, Resident: r.holds.Resident,
	}
}

// goroutines is how many there are, without those that stand for the shim's threads, which come and go with them, and
// without those that run guest threads, of which the runtime keeps some.
func goroutines() int {
	n := 0
	for stack := range strings.SplitSeq(string(stacks()), "\n\n") {
		header, _, _ := strings.Cut(stack, "\n")
		if !strings.Contains(header, "locked to thread") && !strings.Contains(stack, "bridge.(*runners).loop(") {
			n++
		}
	}
	return n
}

// compareRest holds what there is against what there was.
func (s *soak) compareRest(before *rest) error {
	s.check.Rest()
	var more []string
	var now *rest
	for end := time.Now().Add(settling); ; {
		var err error
		if now, err = s.takeRest(); err != nil {
			return err
		}
		if more = before.left(now); len(more) == 0 || time.Now().After(end) {
			break
		}
		<-time.After(50 * time.Millisecond) // nothing tells when it shows
	}
	if len(more) > 0 {
		s.object(&Violation{Invariant: "rest", Text: "left behind: " + strings.Join(more, "; ")})
	}
	s.count.change(func(f *Figures) {
		f.Rests++
		f.AtRest = append(f.AtRest, atRest(now))
	})
	return nil
}

// left is what there is now that should not be, when no cage is left.
func (before *rest) left(now *rest) []string {
	var out []string
	more := func(what string, n, most int) {
		if n > most {
			out = append(out, fmt.Sprintf("%d %s, %d at most", n, what, most))
		}
	}
	more("cages", now.stats.Cages, 0)
	more("ids", now.stats.IDs, 0)
	more("handler rows", now.stats.HandlerRows, 0)
	more("domains", int(now.stats.Domains), 0)
	more("threads of guests", int(now.stats.ThreadsRunning), 0)
	more("late calls of grates", now.stats.LateCalls, 0)
	more("modules", int(now.stats.Modules), int(before.stats.Modules))
	more("open files of cages", now.stats.OpenFiles, before.stats.OpenFiles)
	// The shim keeps some threads for reuse, as many as there were at once, up to a limit.
	idle := int(now.stats.ThreadsIdle) - int(before.stats.ThreadsIdle)
	more("OS threads", now.holds.Threads, before.holds.Threads+idle+moreThreads)
	// Each OS thread that was in the shim may keep an eventfd to be interrupted by, and each module an image of its memory:
	// both are made when first needed.
	events, images, files := byKind(now.holds.FDs)
	eventsBefore, imagesBefore, filesBefore := byKind(before.holds.FDs)
	more("eventfds", events, max(eventsBefore, now.holds.Tasks)+8)
	more("images of memories", images, max(imagesBefore, int(now.stats.Modules)))
	if files > filesBefore {
		out = append(out, fmt.Sprintf("%d descriptors, %d before: now %q, before %q", files, filesBefore,
			now.holds.FDs, before.holds.FDs))
	}
	if leakcheck.MemoryTells {
		more("mappings", now.holds.Mappings, before.holds.Mappings+moreMappings)
		more("MiB resident", int(now.holds.Resident>>20), int((before.holds.Resident+moreResident)>>20))
	}
	if most := before.goroutines + moreGoroutines; now.goroutines > most {
		more("goroutines", now.goroutines, most)
		out = append(out, string(stacks()))
	}
	return out
}

// byKind is how many of the descriptors are eventfds, images of memories, and anything else.
func byKind(fds []string) (events, images, others int) {
	for _, fd := range fds {
		switch {
		case strings.Contains(fd, "[eventfd]"):
			events++
		case strings.Contains(fd, "memfd:wasm-memory-image"):
			images++
		default:
			others++
		}
	}
	return events, images, others
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
	deadline := time.Now().Add(settling)
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
