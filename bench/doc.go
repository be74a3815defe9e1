// Command bench measures lindbridge beside what one would use instead, in one run, and writes docs/benchmarks.md with its
// plots, and all figures as JSON. `make bench` and `make bench-quick` build what it needs and run it; -h prints the options.
//
// # How it measures
//
// Each of those that are compared is a process of its own (package drive), which is asked for a few samples at a time, in
// turn: A B A B, each round beginning with another one. So what slows the machine down for a while slows down all of them,
// and the ratios of the rounds, of which the median is told, stay what they are. Package stat says when there is no ratio
// to be told.
//
// # How to add something
//
// A row is an entry in rows.go: what each side is asked, and what must be reached. A contestant answers lines of words with
// lines of JSON (package drive), and is started in contestants.go. What needs many cages is in many.go and scale.go.
//
// It is a module of its own, so that who uses lindbridge does not get what it depends on.
package main
