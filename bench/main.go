package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/lindbridge/lindbridge/bench/internal/drive"
	"github.com/lindbridge/lindbridge/bench/internal/ours"
	"github.com/lindbridge/lindbridge/bench/internal/plots"
	"github.com/lindbridge/lindbridge/bench/internal/record"
	"github.com/lindbridge/lindbridge/bench/internal/wazero"
)

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are those of the command line.
type options struct {
	root, dir, docs, json, compare string
	only                           string
	quick                          bool
	budget                         time.Duration
}

func command(args []string) error {
	if len(args) == 2 && args[0] == "drive" {
		return contend(args[1])
	}
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.root, "root", "..", "the source tree")
	flags.StringVar(&o.dir, "dir", "", "where the contestants were built (default ROOT/build/bench)")
	flags.StringVar(&o.docs, "docs", "", "where benchmarks.md and its plots go (default ROOT/docs)")
	flags.StringVar(&o.json, "json", "", "where the figures go as JSON (default DIR/bench.json)")
	flags.StringVar(&o.compare, "compare", "", "a JSON file of an earlier run: print what was before and is now")
	flags.StringVar(&o.only, "only", "", "measure only rows whose heading and name match this regular expression")
	flags.BoolVar(&o.quick, "quick", false, "about two minutes, with few samples")
	flags.DurationVar(&o.budget, "budget", 0, "how long the rounds of a row may take")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return o.run()
}

// or is v, or otherwise if it is the zero value.
func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (o *options) run() error {
	root, err := filepath.Abs(o.root)
	if err != nil {
		return err
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return err
	}
	var old *record.Record
	if o.compare != "" { // before the minutes that the rest takes
		if old, err = record.Load(o.compare); err != nil {
			return err
		}
	}
	dir := or(o.dir, filepath.Join(root, "build", "bench"))
	docs := or(o.docs, filepath.Join(root, "docs"))
	if err := os.MkdirAll(docs, 0o755); err != nil {
		return err
	}
	begin := time.Now()
	r := &run{
		arena: &arena{dir: dir, root: root, cpu: lastCPU(), running: map[string]contestant{}, benchTime: 20 * time.Millisecond},
		rec:   &record.Record{When: begin, Mode: "full", Machine: machine()},
		quick: o.quick, budget: 8 * time.Second,
		log: func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
		},
	}
	if o.quick {
		r.rec.Mode, r.budget, r.benchTime = "quick", 400*time.Millisecond, 5*time.Millisecond
	}
	r.budget = or(o.budget, r.budget)
	r.rec.Load[0] = load()
	r.all(only)
	r.rec.Versions = r.versions()
	if err := r.close(); err != nil {
		r.trouble("%v", err)
	}
	r.rec.Load[1], r.rec.Took = load(), time.Since(begin)
	if err := r.rec.Save(or(o.json, filepath.Join(dir, "bench.json"))); err != nil {
		return err
	}
	if err := write(r.rec, docs); err != nil {
		return err
	}
	r.log("written: %s", filepath.Join(docs, "benchmarks.md"))
	if old != nil {
		if err := r.rec.Compare(os.Stdout, old); err != nil {
			return err
		}
	}
	if n := len(r.rec.Troubles); n > 0 {
		return fmt.Errorf("%d things were not measured: they are at the end of the document", n)
	}
	return nil
}

// all measures what matches.
func (r *run) all(only *regexp.Regexp) {
	wants := func(group, what string) bool { return only.MatchString(group + ": " + what) }
	for _, w := range rows() {
		if wants(w.group, w.what) {
			r.measure(w)
		}
	}
	for _, s := range sweeps() {
		if wants(groupScale, s.id) {
			r.sweep(s)
		}
	}
	if wants(groupIdle, "memory") {
		r.memory()
	}
	if wants(groupIdle, "wake-ups") {
		r.calmness()
	}
	if wants("Many cages", "") {
		r.scale()
	}
}

// write writes the document and its plots.
func write(rec *record.Record, docs string) error {
	drawn, err := plots.All(rec, docs)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(docs, "benchmarks.md"))
	if err != nil {
		return err
	}
	return errors.Join(rec.Markdown(f, drawn), f.Close())
}

// contend is this program as one of those that are compared.
func contend(name string) (err error) {
	var d interface {
		Do(*drive.Request) (drive.Reply, error)
		Close() error
	}
	silent := os.NewFile(3, "silent") // see package drive
	switch name {
	case "lindbridge":
		d, err = ours.New(silent)
	case "wazero":
		d, err = wazero.New(silent)
	default:
		err = fmt.Errorf("no contestant %q: want lindbridge or wazero", name)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return drive.Serve(os.Stdin, os.Stdout, d.Do)
}
