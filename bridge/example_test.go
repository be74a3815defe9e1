package bridge_test

import (
	"fmt"
	"log"

	"github.com/lindbridge/lindbridge/bridge"
)

// greeter is a host with one function, and ends a domain with its first thread.
type greeter struct{ done chan struct{} }

func (g *greeter) HostCall(c *bridge.Call) bridge.Verdict {
	text := make([]byte, c.Arg32(1))
	if !c.Memory().ReadCopy(text, uint64(c.Arg32(0))) {
		return bridge.TrapThread
	}
	fmt.Printf("%v: %s\n", c.User(), text)
	return bridge.Continue
}

func (g *greeter) ThreadEnd(e *bridge.ThreadEnd) {
	fmt.Println("thread", e.TID, e.Outcome)
	if err := e.Domain.Stop(); err != nil {
		log.Print(err)
	}
}

func (g *greeter) Quiescent(r *bridge.Report) {
	if err := r.Domain.Close(); err != nil {
		log.Print(err)
	}
	close(g.done)
}

func Example() {
	g := &greeter{done: make(chan struct{})}
	e, err := bridge.Open(bridge.Config{Handler: g})
	if err != nil {
		log.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			log.Print(err)
		}
	}()
	if err := e.Define([]bridge.Import{{Module: "host", Name: "say", Params: "ii", ID: 1}}); err != nil {
		log.Fatal(err)
	}
	m, err := e.Load([]byte(`(module
		(import "host" "say" (func $say (param i32 i32)))
		(memory (export "memory") 1)
		(data (i32.const 8) "hello")
		(func (export "_start") (call $say (i32.const 8) (i32.const 5))))`))
	if err != nil {
		log.Fatal(err)
	}
	d, err := m.NewDomain(bridge.DomainConfig{User: "first"})
	if err != nil {
		log.Fatal(err)
	}
	if err := d.Start("_start"); err != nil {
		log.Fatal(err)
	}
	<-g.done
	// Output:
	// first: hello
	// thread 1 returned
}
