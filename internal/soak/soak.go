package soak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lindbridge/lindbridge"
	"github.com/lindbridge/lindbridge/internal/fault"
)

// Config says how to soak. The zero Config is one short round.
type Config struct {
	// For is how long, the warm-up included but not the loading of all modules. 0: ten seconds.
	For time.Duration
	// Seed determines the plans.
	Seed uint64
	// Cages is how many programs live at the same time, about. 0: 200.
	Cages int
	// Workers carry out plans at the same time. 0: 8.
	Workers int
	// Faults has a share of the plans go wrong in the host's own code. It needs a build with the tag faults.
	Faults bool
	// Replay has the workers begin the plans of each index together, from the index From on.
	Replay bool
	From   int
	// Patience is how long anything may take that should take microseconds. 0: a minute.
	Patience time.Duration
	// RestEvery is how long it goes on between two rests. 0: a quarter of For, and 30 s at most.
	RestEvery time.Duration
	// Programs is how many programs of the exit matrix take part, drawn from the seed; to load all takes seconds. 0: all.
	Programs int
	// Guests is the directory with the programs of testdata/guests; empty: they take no part.
	Guests string
	// ShimPath is the shim's file; empty: it is searched for.
	ShimPath string
	// MaxIdleThreads is how many threads the shim keeps for reuse. 0: its default.
	MaxIdleThreads int
	// Progress, if not nil, is told the figures now and then, without Phases.
	Progress func(Figures)
	// MaxViolations is how many violations end the soak. 0: one.
	MaxViolations int
}

// ErrNoFaults is returned for Config.Faults in a build that has no failure points.
var ErrNoFaults = errors.New("this build has no failure points: build it with -tags faults (make soak)")

// stepNames are the steps of an exit, in their order.
var stepNames = []string{"notify", "handlers", "descriptors", "timers", "children", "memory", "zombie"}

// soak is one soak.
type soak struct {
	cfg     Config
	rt      *lindbridge.Runtime
	check   *Checker
	lib     *library
	count   *counters
	history *history
	silent  *os.File // what nothing can be read from
	loud    *os.File // the other end of it
	crowd   crowd
	shim    *shim // nil without faults
	bursts  int   // how many there were

	next  []int // the index of each worker's next plan; each is its worker's while a burst lasts
	few   sample
	many  sample
	scant atomic.Bool // few cages live

	onViolation func(*Violation)   // in the place of all else that object does, for tests; nil otherwise
	cancel      context.CancelFunc // ends the burst that goes on
	mu          sync.Mutex
	failed      bool     // guarded by mu
	guilty      []Who    // the plans that violations came up in; guarded by mu
	lately      []string // the history when the first one did; guarded by mu
}

// Run soaks until the time is over, ctx is done, or something is wrong. The figures are good in any case. The error is nil
// if nothing was wrong; a *Failure if there were violations.
func Run(ctx context.Context, cfg Config) (Figures, error) {
	cfg = cfg.withDefaults()
	if cfg.Faults && !fault.Enabled {
		return Figures{Seed: cfg.Seed}, ErrNoFaults
	}
	began := time.Now()
	s := &soak{cfg: cfg, count: newCounters(cfg.Seed, stepNames), history: newHistory(), next: make([]int, cfg.Workers)}
	for i := range s.next {
		s.next[i] = cfg.From
	}
	s.check = NewChecker(stepNames, func(v *Violation) { s.object(v) })
	err := s.open(ctx)
	if err == nil {
		began = time.Now()
		err = s.run(ctx, began)
	}
	f := s.figures(began)
	err = errors.Join(err, s.close())
	if len(f.Violations) > 0 {
		return f, &Failure{Figures: f, Recent: s.lately, Replay: s.replay(), err: err}
	}
	return f, err
}

func (cfg Config) withDefaults() Config {
	or := func(v *time.Duration, otherwise time.Duration) {
		if *v <= 0 {
			*v = otherwise
		}
	}
	or(&cfg.For, 10*time.Second)
	or(&cfg.Patience, time.Minute)
	or(&cfg.RestEvery, min(cfg.For/4, 30*time.Second))
	if cfg.Cages <= 0 {
		cfg.Cages = 200
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 8
	}
	if cfg.MaxViolations <= 0 {
		cfg.MaxViolations = 1
	}
	cfg.From = max(cfg.From, 0)
	return cfg
}

// open makes what plans need.
func (s *soak) open(ctx context.Context) (err error) {
	if s.silent, s.loud, err = os.Pipe(); err != nil {
		return err
	}
	fault.SetAudit(s.check.Audit)
	s.rt, err = lindbridge.New(lindbridge.Config{
		ShimPath: s.cfg.ShimPath, Observer: s.check.Observe, MaxCages: 4*s.cfg.Cages + 4096, MaxThreads: 65536,
		MaxIdleThreads: s.cfg.MaxIdleThreads,
	})
	if err != nil {
		return err
	}
	if s.cfg.Faults {
		if s.shim, err = openShim(s.cfg.ShimPath); err != nil {
			return err
		}
	}
	if s.lib, err = newLibrary(ctx, s.rt, s.cfg); err != nil {
		return err
	}
	return s.startAll(ctx)
}

// startAll starts a program of each module once: what a module has for its instances is made with the first.
func (s *soak) startAll(ctx context.Context) error {
	for _, m := range s.lib.all() {
		c, err := s.rt.Spawn(ctx, lindbridge.Program{Module: m, Stdin: s.silent})
		if err != nil {
			return err
		}
		track := s.check.Claim(c.ID())
		c.Kill()
		track.Waiting()
		if _, err := c.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// run goes from rest to rest.
func (s *soak) run(ctx context.Context, began time.Time) error {
	end := began.Add(s.cfg.For)
	progress := s.progress()
	defer progress()
	// The warm-up: a burst like any other, after which all that is kept for reuse is there.
	s.scant.Store(true)
	s.burst(ctx, min(s.cfg.RestEvery, s.cfg.For/5)/4, false)
	s.scant.Store(false)
	s.burst(ctx, min(s.cfg.RestEvery, s.cfg.For/5), true)
	if err := s.drain(); err != nil {
		return err
	}
	warm, err := s.takeRest()
	if err != nil {
		return err
	}
	s.count.change(func(f *Figures) { f.AtRest = append(f.AtRest, atRest(warm)) })
	for ctx.Err() == nil && !s.over() && time.Now().Before(end) {
		// Every other time the shim fails too, which is not told by cage: what is measured are the times in between.
		s.bursts++
		if s.shim != nil && s.bursts%2 == 1 {
			if err := s.shim.disturb(s.cfg.Seed, s.bursts); err != nil {
				return err
			}
		}
		s.burst(ctx, min(s.cfg.RestEvery, max(time.Until(end), 0)), true)
		if s.shim != nil {
			if err := s.shim.calm(); err != nil {
				return err
			}
		}
		if err := s.drain(); err != nil {
			return err
		}
		if s.shim != nil {
			s.shim.forget()
		}
		if err := s.compareRest(warm); err != nil {
			return err
		}
	}
	s.check.Proportionate(s.few.quantiles(), s.many.quantiles())
	return nil
}

// burst has the workers carry out plans for a while. With crowded there are as many cages as there are to be.
func (s *soak) burst(ctx context.Context, lasts time.Duration, crowded bool) {
	ctx, cancel := context.WithTimeout(ctx, lasts)
	defer cancel()
	s.mu.Lock()
	s.cancel = cancel
	failed := s.failed
	s.mu.Unlock()
	if failed {
		return
	}
	if crowded {
		s.crowd.want.Store(int64(s.cfg.Cages))
		s.fill(ctx)
	} else {
		s.crowd.want.Store(4)
	}
	var workers sync.WaitGroup
	if s.cfg.Replay {
		for ctx.Err() == nil {
			for w := range s.next {
				workers.Go(func() { s.turn(w) })
			}
			workers.Wait()
		}
		return
	}
	for w := range s.next {
		workers.Go(func() {
			for ctx.Err() == nil {
				s.turn(w)
			}
		})
	}
	workers.Wait()
}

// turn carries out the worker's next plan.
func (s *soak) turn(worker int) {
	who := Who{worker, s.next[worker]}
	s.next[worker]++
	p := PlanOf(s.cfg.Seed, who, s.cfg.Faults)
	s.history.note(who, 0, "%v", p)
	s.count.change(func(f *Figures) { f.Plans[string(p.Kind)]++ })
	a := &actor{soak: s, plan: p}
	a.act()
}

// object is told of each violation.
func (s *soak) object(v *Violation, who ...Who) {
	if s.onViolation != nil {
		s.onViolation(v)
		return
	}
	s.count.change(func(f *Figures) {
		if len(f.Violations) < 20 {
			f.Violations = append(f.Violations, v)
		}
		if len(f.Violations) >= s.cfg.MaxViolations {
			s.mu.Lock()
			s.failed = true
			if s.cancel != nil {
				s.cancel()
			}
			s.mu.Unlock()
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guilty = append(s.guilty, who...)
	if s.lately == nil {
		s.lately = s.history.lines(recentMoments, v.Cage, who...)
	}
}

// over reports whether enough is wrong.
func (s *soak) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// progress tells the figures now and then until the function that it answers is called.
func (s *soak) progress() (stop func()) {
	if s.cfg.Progress == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				f := s.count.snapshot()
				f.Elapsed, f.Faults = time.Since(began), s.faultHits()
				s.cfg.Progress(f)
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// figures are the figures at the end.
func (s *soak) figures(began time.Time) Figures {
	f := s.count.snapshot()
	f.Elapsed, f.Faults, f.Phases = time.Since(began), s.faultHits(), s.count.phases()
	return f
}

// close gives everything back.
func (s *soak) close() error {
	fault.SetAudit(nil)
	var errs []error
	if s.rt != nil {
		ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Patience)
		defer cancel()
		errs = append(errs, s.rt.Close(ctx))
	}
	if s.shim != nil {
		errs = append(errs, s.shim.close())
	}
	for _, f := range []*os.File{s.silent, s.loud} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// recentMoments is how much of the history a failure shows beside what its own plans did.
const recentMoments = 40

// replay is what to add to the command line to see it again.
func (s *soak) replay() string {
	from := -1
	for _, next := range s.next {
		if from < 0 || next < from {
			from = next
		}
	}
	s.mu.Lock()
	for _, who := range s.guilty {
		from = min(from, who.Index)
	}
	s.mu.Unlock()
	text := fmt.Sprintf("--seed %d --replay --from %d --workers %d --cages %d", s.cfg.Seed, max(from-2, 0), s.cfg.Workers, s.cfg.Cages)
	if s.cfg.Programs > 0 {
		text += fmt.Sprintf(" --programs %d", s.cfg.Programs)
	}
	if s.cfg.Faults {
		text += " --faults"
	}
	return text
}
