// Command bench measures lindbridge beside what one would use instead, in one run, and writes docs/benchmarks.md.
package main
