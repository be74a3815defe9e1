package exitcoord_test

import (
	"context"
	"fmt"

	"github.com/lindbridge/lindbridge/exitcoord"
)

// threads stands for the execution side of a cage: here, one thread that leaves as soon as it is told to.
type threads struct {
	exit *exitcoord.Exit
	stop chan struct{}
}

func (th *threads) Stop() error {
	close(th.stop)
	return nil
}

func (th *threads) Threads() []exitcoord.ThreadState {
	return []exitcoord.ThreadState{{TID: 1, At: "guest"}}
}

func (th *threads) run() {
	<-th.stop // the guest's code
	// The last one out: it does the cleanup.
	if err := th.exit.Quiescent([]exitcoord.ThreadState{{TID: 1, At: "guest"}}); err != nil {
		fmt.Println(err)
	}
}

func Example() {
	th := &threads{stop: make(chan struct{})}
	th.exit = exitcoord.New(exitcoord.Config{
		Cage:    7,
		Stopper: th,
		Steps: []exitcoord.Step{
			{Name: "descriptors", Run: func(context.Context) error { fmt.Println("close descriptors"); return nil }},
			{Name: "memory", Run: func(context.Context) error { fmt.Println("free memory"); return nil }},
		},
	})
	go th.run()

	fmt.Println("won:", th.exit.Begin(exitcoord.Cause{Kind: exitcoord.ExitGroup, Code: 7, TID: 1}))
	fmt.Println("won:", th.exit.Begin(exitcoord.Cause{Kind: exitcoord.HostKill}))
	<-th.exit.Done()

	r := th.exit.Report()
	fmt.Printf("%v, %v, %d late\n", r.Cause, r.Status, r.Lost)
	if err := th.exit.Reap(); err != nil {
		fmt.Println(err)
	}
	// Unordered output: won: true
	// won: false
	// close descriptors
	// free memory
	// proc_exit(7) by thread 1, exited with code 7, 1 late
}
