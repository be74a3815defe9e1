package main

import "fmt"

// row is something that is measured of ours and, in turn, of peers.
type row struct {
	id, group, what string
	// ours is the contestant and what it is asked.
	ours ask
	// batch is how many samples it is asked for at once. 0: 1.
	batch int
	peers []peer
	// refs are figures that are not measured here.
	refs []reference
	note string
	// plot and curve, if set, are where ours is also drawn, at x.
	plot, curve string
	x           float64
}

// ask is a request to a contestant.
type ask struct{ contestant, words string }

// peer is what ours is compared with.
type peer struct {
	who string
	ask
	// batch is as the row's; every makes it take part in each so-manyth round alone. 0: in each.
	batch, every int
	must, aim    float64 // the most that the ratio may be; 0: nothing was asked
	// attempt is something that it is thought to be unable to do: it is tried, once, with a deadline.
	attempt bool
}

// reference is a figure of others, in nanoseconds.
type reference struct {
	who       string
	ns        float64
	must, aim float64
	// instead: it is shown only where no peer of the row was measured.
	instead bool
}

// The headings.
const (
	groupCalls    = "Calls"
	groupHandlers = "Handlers (3i)"
	groupFDs      = "Descriptors (fdtables)"
	groupStop     = "Kill until quiescent: the shim alone, from Rust"
	groupKill     = "Kill until everything is cleaned up and waited for"
	groupSpawn    = "Spawn, run, exit, wait"
	groupScale    = "Exit beside many others"
	groupIdle     = "At rest"
)

// The plots.
const (
	plotTranslate = "translate"
	plotSpawn     = "spawn"
)

// What is said of Lind is from its published benchmark, or from its own benchmarks as they were run once on a machine like
// this one, in the default configuration.
const (
	lindPublished = "Lind, published"
	lindMeasured  = "Lind's tables, measured earlier"
	lindTables    = "Lind's tables, built from a checkout"
	gvisor        = "gVisor, published"
	goal          = "goal: 50,000 a second on 2 cores"
)

// rows are all rows but those that need many cages.
func rows() []row {
	var all []row
	all = append(all, callRows()...)
	all = append(all, handlerRows()...)
	all = append(all, fdRows()...)
	all = append(all, stopRows()...)
	all = append(all, killRows()...)
	return append(all, spawnRows()...)
}

func callRows() []row {
	const ourselves = "lindbridge@pinned"
	geteuid := func(on string, must, aim float64) peer {
		return peer{who: "native geteuid", ask: ask{on, "geteuid"}, batch: 5, must: must, aim: aim}
	}
	// A call of Go by a thread that is not Go's: with one processor alone Go takes it away from such a thread every now and
	// then, since there is nobody else to run on. So these are not pinned.
	rust := peer{who: "host function in plain Rust on Wasmtime", ask: ask{"floor", "hostcall"}, batch: 1}
	wazero := peer{who: "host function in Go on wazero", ask: ask{"wazero", "hostcall"}, batch: 5}
	return []row{
		{
			id: "call/grate", group: groupCalls, what: "call through a grate and back", ours: ask{ourselves, "call grate1"}, batch: 5,
			peers: []peer{geteuid("native@pinned", 1, 0.5)}, refs: []reference{{who: lindPublished, ns: 358}},
			note: "Lind's published 358 ns stand beside its geteuid of 90 ns: 3.98 times that",
		},
		{
			id: "call/three grates", group: groupCalls, what: "call through a chain of three grates", ours: ask{ourselves, "call grate3"},
			batch: 5, peers: []peer{geteuid("native@pinned", 0, 0)},
		},
		{
			id: "call/native", group: groupCalls, what: "geteuid of a guest, served in Go (cgo)", ours: ask{"lindbridge", "call lind"},
			batch: 5, peers: []peer{geteuid("native", 1, 0.7), wazero, rust}, refs: []reference{
				{who: lindPublished, ns: 122}, {who: gvisor + ": getpid, KVM", ns: 830}, {who: gvisor + ": getpid, ptrace", ns: 6249},
			},
			note: "Lind's published 122 ns stand beside its geteuid of 90 ns, 1.36 times that; gVisor's beside a getpid of 62 ns, or 236 " +
				"with KPTI: 13 and 3.5 times that for KVM (gvisor.dev, \"Running gVisor in Production at Scale in Ant\", 2021)",
		},
		{
			id: "call/native without cgo", group: groupCalls, what: "geteuid of a guest, served in Go (no cgo)",
			ours: ask{"nocgo", "call lind"}, batch: 1, peers: []peer{geteuid("native", 0, 0)},
		},
	}
}

func handlerRows() []row {
	const pinned = "@pinned"
	one := func(id, what, on, words, lind string, earlier, must float64) row {
		r := row{id: "handlers/" + id, group: groupHandlers, what: what, ours: ask{"threei" + on, words}, batch: 8}
		r.besideLind(on, lind, earlier, must)
		return r
	}
	return []row{
		one("look-up, hot", "look-up, hot", pinned, "BenchmarkLookup hot", "lookup 1 1", 29, 0.2),
		one("look-up, many cages", "look-up, 1,000 cages in turn", pinned, "BenchmarkLookup cages=1000", "lookup 1000 1", 35,
			0.2),
		one("look-up, 2 threads", "look-up, 2 threads at once", "", "BenchmarkLookup threads=2", "lookup 1 2", 88, 0.2),
		one("register", "register a handler", pinned, "BenchmarkRegister other_call", "register", 57, 0.3),
		one("register, many", "register a handler, 1,000,000 elsewhere", pinned,
			"BenchmarkRegister other_call,_1000000_elsewhere", "register", 57, 0.3),
		one("copy", "copy a table of 256 handlers", pinned, "BenchmarkCopyTable different", "copy", 28_400, 0.3),
	}
}

// besideLind compares w with Lind's tables where those were built, and with what they took earlier where they were not:
// then the machine is another, or has another speed by now.
func (w *row) besideLind(on, words string, earlier, must float64) {
	w.peers = append(w.peers, peer{who: lindTables, ask: ask{"lind" + on, words}, batch: 2, must: must})
	if earlier > 0 {
		w.refs = append(w.refs, reference{who: lindMeasured, ns: earlier, must: must, instead: true})
	}
}

func fdRows() []row {
	one := func(id, on, words, lind string, earlier, must float64) row {
		r := row{id: "fdtables/" + id, group: groupFDs, what: id, ours: ask{"fdtables" + on, words}, batch: 8}
		r.besideLind(on, lind, earlier, must)
		return r
	}
	var all []row
	for _, n := range []int{1, 2, 4, 8, 16} {
		on, lind, must := "", 0.0, 0.0
		if n == 1 {
			on = "@pinned"
		}
		if n == 1 || n == 8 {
			lind, must = 66, 0.1
		}
		r := one(fmt.Sprintf("translate, %d threads on one cage", n), on,
			fmt.Sprintf("BenchmarkTranslate one_table goroutines=%d", n), fmt.Sprintf("translate %d", n), lind, must)
		r.plot, r.curve, r.x = plotTranslate, "one table", float64(n)
		if n == 8 {
			r.note = "wall time for each operation of all threads together"
		}
		all = append(all, r)
	}
	const pinned = "@pinned"
	return append(all,
		one("open + close", pinned, "BenchmarkOpenClose lower=0", "open 0", 264, 0.3),
		one("open + close, 1,023 lower descriptors used", pinned, "BenchmarkOpenClose lower=1023", "open 1023", 507, 0.3),
		one("init", pinned, "BenchmarkInit", "init", 0, 0.3),
		one("exec that closes 64 descriptors", pinned, "BenchmarkExec marked=true fds=64", "exec 64", 0, 0.3),
		one("exec that closes 1,024 descriptors", pinned, "BenchmarkExec marked=true fds=1024", "exec 1024", 0, 0.3),
		one("fork of 0 descriptors", pinned, "BenchmarkFork fds=0", "fork 0", 1600, 0.3),
		one("fork of 64 descriptors", pinned, "BenchmarkFork fds=64", "fork 64", 4100, 0.3),
		one("fork of 1,024 descriptors", pinned, "BenchmarkFork fds=1024", "fork 1024", 41_000, 0.3),
		one("exit of 0 descriptors", pinned, "BenchmarkRemove last fds=0", "exit 0", 0, 0.3),
		one("exit of 64 descriptors", pinned, "BenchmarkRemove last fds=64", "exit 64", 5700, 0.3),
		one("exit of 1,024 descriptors", pinned, "BenchmarkRemove last fds=1024", "exit 1024", 57_000, 0.3),
	)
}

// mixes are the threads of what is killed.
var mixes = []struct{ id, what, words string }{
	{"busy", "1 busy thread", "1 0 0"},
	{"waiting", "1 thread in an atomic wait", "0 1 0"},
	{"reading", "1 thread blocked in a read", "0 0 1"},
	{"mixed", "8 threads: 2 busy, 3 waiting, 3 reading", "2 3 3"},
}

func stopRows() []row {
	var all []row
	for _, m := range mixes {
		r := row{
			id: "stop/" + m.id, group: groupStop, what: m.what, ours: ask{"floor", "stop ours " + m.words}, batch: 5,
			peers: []peer{{
				who: "plain Rust on Wasmtime: epoch, notify, eventfd, join", ask: ask{"floor", "stop plain " + m.words}, batch: 5,
				must: 1.2, aim: 1.05,
			}},
		}
		if m.id != "mixed" {
			r.peers = append(r.peers, peer{
				who: "Wasmtime's epoch alone", ask: ask{"floor", "stop epoch " + m.words}, batch: 5, attempt: m.id != "busy",
			})
			r.note = "wasmtime-go was not to be had for this; of interruption it offers what Wasmtime's C API does, the epoch: \"epoch alone\""
		}
		all = append(all, r)
	}
	return all
}

func killRows() []row {
	var all []row
	for _, m := range mixes {
		native := peer{who: "kill -9 + waitpid of a native process", ask: ask{"native", "kill " + m.words}, batch: 3, must: 0.5, aim: 0.25}
		wazero := peer{who: "wazero: context canceled", ask: ask{"wazero", "kill " + m.words}, batch: 3, attempt: m.id != "busy"}
		node := peer{who: "Node: worker.terminate()", ask: ask{"node", "kill " + m.words}, every: 4, attempt: m.id == "reading"}
		r := row{
			id: "kill/" + m.id, group: groupKill, what: m.what, ours: ask{"lindbridge", "kill " + m.words}, batch: 3, peers: []peer{native},
		}
		switch m.id {
		case "busy":
			wazero.must = 1
			r.peers = append(r.peers, wazero, node)
		case "waiting", "reading":
			r.peers = append(r.peers, wazero, node)
		}
		all = append(all, r)
		if m.id == "busy" { // the same with caches that are the contestant's own
			r.id, r.what, r.batch = "kill/busy, warm", "1 busy thread, 30 programs one after the other", 30
			native.batch, wazero.batch = r.batch, r.batch
			r.peers = []peer{native, wazero}
			all = append(all, r)
		}
	}
	return all
}

func spawnRows() []row {
	processes := []peer{
		{who: "posix_spawn + wait of a static program", ask: ask{"native", "spawn posix_spawn"}, batch: 2, must: 0.1},
		{who: "vfork + _exit + wait", ask: ask{"native", "spawn vfork"}, batch: 2, must: 1},
		{who: "fork + _exit + wait", ask: ask{"native", "spawn fork"}, batch: 2},
	}
	others := func(kind string) []peer {
		return []peer{
			{who: "plain Rust on Wasmtime, with a thread", ask: ask{"floor", "spawn plain " + kind}, batch: 5},
			{who: "plain Rust on Wasmtime, on the caller's thread", ask: ask{"floor", "spawn inline " + kind}, batch: 5},
			{who: "the shim alone, from Rust", ask: ask{"floor", "spawn ours " + kind}, batch: 5},
		}
	}
	memory := append(append([]peer{}, processes...), others("memory")...)
	memory = append(memory, peer{who: "wazero, on the caller's goroutine", ask: ask{"wazero", "spawn memory"}, batch: 5})
	memory = append(memory, peer{who: "Node: a worker that ends at once", ask: ask{"node", "spawn"}, every: 8})
	all := []row{
		{
			id: "spawn/memory", group: groupSpawn, what: "tiny cage with a memory", ours: ask{"lindbridge", "spawn memory"}, batch: 5,
			peers: memory,
			refs:  []reference{{who: "gVisor: runsc create + start, a user's best of eight hosts", ns: 81e6}},
			note:  "gVisor's 81 ms are the fastest of the eight hosts of apoxy.dev, \"gVisor cold start: where the time goes\"",
		},
		{
			id: "spawn/plain", group: groupSpawn, what: "tiny cage without one", ours: ask{"lindbridge", "spawn plain"}, batch: 5,
			peers: append(append([]peer{}, processes[:2]...), others("plain")[0]),
		},
		{
			id: "spawn/shared", group: groupSpawn, what: "tiny cage with a shared memory", ours: ask{"lindbridge", "spawn shared"}, batch: 5,
			peers: append(append([]peer{}, processes[:2]...), others("shared")[0]),
		},
	}
	all = append(all, row{
		id: "spawn/100", group: groupSpawn, what: "100 tiny cages spawned, then waited for: wall time for each",
		ours: ask{"lindbridge", "crop"}, peers: []peer{processes[1]},
		refs: []reference{{who: goal, ns: 20_000, aim: 1}},
	})
	for _, n := range []int{1, 2, 4, 8} {
		r := row{
			id: fmt.Sprintf("spawn/rate %d", n), group: groupSpawn, what: fmt.Sprintf("rate, by %d goroutines: wall time for each", n),
			ours: ask{"lindbridge", fmt.Sprintf("rate %d", n)}, batch: 400, plot: plotSpawn, curve: "lindbridge", x: float64(n),
		}
		if n == 2 {
			r.refs = []reference{{who: goal, ns: 20_000, aim: 1}}
		}
		all = append(all, r)
	}
	return all
}
