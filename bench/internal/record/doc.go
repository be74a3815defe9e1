// Package record is what a run of the benchmarks has found: kept as JSON, told as a document, and compared with an earlier
// run's.
package record
