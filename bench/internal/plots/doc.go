// Package plots draws what a run of the benchmarks has found.
package plots
