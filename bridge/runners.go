package bridge

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// defaultMaxGoThreads is for Config.MaxGoThreads 0.
const defaultMaxGoThreads = 64

// runners are the goroutines that run guest threads. One that has nothing to run waits for more: its stack has grown to
// what a callback needs, and growing another costs more than the rest of an exit.
type runners struct {
	most int64            // immutable
	busy atomic.Int64     // guest threads that were given one; never more than most for long
	idle atomic.Int64     // those that wait, or are about to
	work chan begunThread // immutable
	done chan struct{}    // immutable; closed by close
	once sync.Once        // closes done
}

// begunThread is a guest thread that was begun, for a runner.
type begunThread struct {
	domain *Domain
	handle uint64
	tid    uint32
}

func (r *runners) init(most int) {
	if most == 0 {
		most = defaultMaxGoThreads
	}
	r.most = int64(most)
	r.work, r.done = make(chan begunThread), make(chan struct{})
}

// take reports whether one more guest thread may have a runner: then run or give follows.
func (r *runners) take() bool {
	if r.busy.Add(1) <= r.most {
		return true
	}
	r.busy.Add(-1)
	return false
}

func (r *runners) give() { r.busy.Add(-1) }

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
		r.give()
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
