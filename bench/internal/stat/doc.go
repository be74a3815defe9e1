// Package stat has what the benchmarks say about samples: medians with their confidence intervals, ratios of what was
// measured in turn, and whether either is more than noise.
//
// It makes no assumption about distributions: intervals are those of order statistics. No sample is ever left out.
package stat
