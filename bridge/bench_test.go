package bridge_test

import (
	"fmt"
	"testing"

	"github.com/lindbridge/lindbridge/bridge"
)

// BenchmarkHostCall is one guest -> Go -> guest round trip of a host call without parameters, in a loop of the guest.
func BenchmarkHostCall(b *testing.B) {
	for _, bm := range hostCalls {
		b.Run(bm.name, func(b *testing.B) {
			h := newHost(bm.call)
			e := openShim(b, h, nop)
			m := loadWat(b, e, fmt.Sprintf(`(module
				(import "host" "nop" (func $nop))
				(func (export "_start") (local $i i64)
					(local.set $i (i64.const %d))
					(loop $l
						call $nop
						(local.set $i (i64.sub (local.get $i) (i64.const 1)))
						(br_if $l (i64.ne (local.get $i) (i64.const 0))))))`, b.N))
			d := newDomain(b, m, bridge.DomainConfig{User: h})
			b.ResetTimer()
			must(b, d.Start("_start"))
			end := h.end(b)
			b.StopTimer()
			equal(b, "outcome: "+end.Message, end.Outcome, bridge.EndReturned)
			finish(b, h, d)
		})
	}
}

// BenchmarkHostCallFromC is the same from a loop in C: what the bridge costs without the WebAssembly runtime.
func BenchmarkHostCallFromC(b *testing.B) {
	for _, bm := range hostCalls {
		b.Run(bm.name, func(b *testing.B) {
			h := newHost(bm.call)
			e := openFake(b, h)
			d := newDomain(b, load(b, e, "main:", fmt.Sprintf("call 1 %d", b.N)), bridge.DomainConfig{User: h})
			b.ResetTimer()
			must(b, d.Start("_start"))
			end := h.end(b)
			b.StopTimer()
			equal(b, "outcome: "+end.Message, end.Outcome, bridge.EndReturned)
			finish(b, h, d)
		})
	}
}

// hostCalls are handlers that do nothing, and what a personality does on each call.
var hostCalls = []struct {
	name string
	call func(*bridge.Call) bridge.Verdict
}{
	{"nop", keepGoing},
	{"data", func(c *bridge.Call) bridge.Verdict {
		if _, ok := c.User().(*host); !ok {
			return bridge.TrapThread
		}
		if _, ok := c.ThreadData().(*host); !ok {
			c.SetThreadData(c.User())
		}
		if c.Memory().Size() == 1 {
			return bridge.TrapThread
		}
		return bridge.Continue
	}},
}

// BenchmarkSpawnRunExit is the whole life of a domain whose program returns at once.
func BenchmarkSpawnRunExit(b *testing.B) {
	h := newHost(keepGoing)
	e := openShim(b, h)
	m := loadWat(b, e, `(module (import "env" "memory" (memory 1 4 shared)) (func (export "_start")))`)
	b.ReportAllocs()
	for b.Loop() {
		d, err := m.NewDomain(bridge.DomainConfig{})
		must(b, err)
		must(b, d.Start("_start"))
		h.end(b)
		finish(b, h, d)
	}
}

// BenchmarkCall is a call of the shim that does next to nothing: what SyscallN and the bridge's checks cost.
func BenchmarkCall(b *testing.B) {
	e := openFake(b, newHost(keepGoing))
	d := newDomain(b, load(b, e, "main:"), bridge.DomainConfig{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Memory(); err != nil {
			b.Fatal(err)
		}
	}
}
