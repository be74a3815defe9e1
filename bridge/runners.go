package bridge

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// defaultMaxGoThreads is for Config.MaxGoThreads 0.
	defaultMaxGoThreads = 64
	// shortLife is how long a short program lives at most.
	shortLife = 10 * time.Millisecond
	// trial is how many runners a module may have of whose programs nothing is known, or that they stay. All such modules
	// together have half of the runners at most.
	trial = 2
)

// runners are the goroutines that run guest threads. One that has nothing to run waits for more: its stack has grown to
// what a callback needs, and growing another costs more than the rest of an exit.
//
// They are for programs that end soon. Which those are, the module's others have shown: see lanes. A program that stays is
// better off with one too: who waits for it goes on where it was ended, on a processor that is awake.
type runners struct {
	most int64            // immutable
	busy atomic.Int64     // guest threads that were given one; never more than most for long
	idle atomic.Int64     // those that wait, or are about to
	work chan begunThread // immutable
	done chan struct{}    // immutable; closed by close
	once sync.Once        // closes done
}

// lanes is how many runners the programs of one module may have: one more for each that was short, one less for each that
// was not, or was killed. So programs that stay leave half of the runners to those that come and go.
type lanes struct {
	most atomic.Int64 // from trial to that of the runners
	used atomic.Int64
}

// begunThread is a guest thread that was begun, for a runner.
type begunThread struct {
	domain *Domain
	handle uint64
	tid    uint32
}

// runnersBegan is when the process began, more or less.
var runnersBegan = time.Now()

// runnersClock is a clock that is cheap to read, and never 0.
func runnersClock() time.Duration { return time.Since(runnersBegan) + 1 }

func (r *runners) init(most int) {
	if most == 0 {
		most = defaultMaxGoThreads
	}
	r.most = int64(most)
	r.work, r.done = make(chan begunThread), make(chan struct{})
}

// take reports whether one more guest thread of the lanes' module may have a runner: then run or give follows.
func (r *runners) take(l *lanes) bool {
	lane, most := l.most.Load(), r.most
	if lane <= trial {
		most -= most / 2 // the rest is for modules that have shown what they are
	}
	if l.used.Add(1) <= lane {
		if r.busy.Add(1) <= most {
			return true
		}
		r.busy.Add(-1)
	}
	l.used.Add(-1)
	return false
}

func (r *runners) give(l *lanes) {
	r.busy.Add(-1)
	l.used.Add(-1)
}

// lived tells whether a program of the lanes' module has ended soon, by itself.
func (r *runners) lived(l *lanes, short bool) {
	most := l.most.Load()
	change := int64(-1)
	if short {
		change = 1
	}
	if after := most + change; after >= trial && after <= r.most {
		l.most.CompareAndSwap(most, after) // if another changes it meanwhile, this one does not count
	}
}

// run runs the thread on a runner, and returns at once. The runner is the next goroutine of this processor: if the caller
// goes on to wait, it runs here.
func (r *runners) run(t begunThread) {
	select {
	case r.work <- t:
	default:
		go r.loop(t)
	}
}

func (r *runners) loop(t begunThread) {
	for {
		t.run()
		r.give(&t.domain.module.lanes)
		t = begunThread{} // nothing of it is held while this waits
		if r.idle.Add(1) > r.most {
			r.idle.Add(-1)
			return
		}
		select {
		case t = <-r.work:
			r.idle.Add(-1)
		case <-r.done:
			return
		}
	}
}

// close ends those that wait.
func (r *runners) close() { r.once.Do(func() { close(r.done) }) }

// run runs the thread on the calling goroutine's thread, until it has left for good.
func (t begunThread) run() {
	d := t.domain
	// A domain that was stopped and deleted before it came to that has no such thread any more.
	if err := d.engine.lib.threadRun(t.handle, t.tid); err != nil && !errors.Is(err, ErrHandle) {
		d.engine.recovered(fmt.Errorf("run thread %d of domain %#x: %w", t.tid, t.handle, err), d)
	}
}
