package stat

import (
	"math"
	"slices"
)

// Summary is what is told of samples.
type Summary struct {
	N   int     `json:"n"`
	Min float64 `json:"min"`
	P25 float64 `json:"p25"`
	P50 float64 `json:"p50"`
	P75 float64 `json:"p75"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Of summarizes samples, which it leaves as they are. Without samples all is NaN.
func Of(samples []float64) Summary {
	s := slices.Sorted(slices.Values(samples))
	return Summary{
		N: len(s), Min: quantile(s, 0), P25: quantile(s, 0.25), P50: quantile(s, 0.5),
		P75: quantile(s, 0.75), P99: quantile(s, 0.99), Max: quantile(s, 1),
	}
}

// Median is the median of samples, which it leaves as they are; NaN if there are none.
func Median(samples []float64) float64 { return quantile(slices.Sorted(slices.Values(samples)), 0.5) }

// quantile interpolates between the two samples that are next to the place.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	part := at - float64(low)
	return sorted[low]*(1-part) + sorted[low+1]*part
}

// MinSamples is how many samples an interval needs: the range of fewer holds the median with less than 95%.
const MinSamples = 6

// Estimate is a median with its 95% confidence interval.
type Estimate struct {
	N   int     `json:"n"`
	Mid float64 `json:"mid"`
	Lo  float64 `json:"lo"`
	Hi  float64 `json:"hi"`
}

// EstimateOf is the median of the samples and its interval: the two order statistics between which the median lies with a
// probability of at least 95%, whatever the distribution. With fewer than MinSamples it is their range, which is less
// sure, and Sure is false.
func EstimateOf(samples []float64) Estimate {
	s := slices.Sorted(slices.Values(samples))
	e := Estimate{N: len(s), Mid: quantile(s, 0.5), Lo: quantile(s, 0), Hi: quantile(s, 1)}
	if !e.Sure() {
		return e
	}
	k := depth(len(s))
	e.Lo, e.Hi = s[k-1], s[len(s)-k]
	return e
}

// depth is the largest k for which at most 2.5% of all draws of n have fewer than k samples below the median.
func depth(n int) int {
	logHalf := -float64(n) * math.Ln2
	sum, k := 0.0, 0
	for ; k < n; k++ {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(k + 1))
		c, _ := math.Lgamma(float64(n - k + 1))
		if sum += math.Exp(a - b - c + logHalf); sum > 0.025 {
			break
		}
	}
	return max(k, 1)
}

// Sure reports whether there were enough samples for an interval.
func (e Estimate) Sure() bool { return e.N >= MinSamples }

// Ratios is the ratio of ours to theirs: that of each pair, one after the other in one run, so that what slows the machine
// down for a while slows down both.
func Ratios(ours, theirs []float64) []float64 {
	r := make([]float64, min(len(ours), len(theirs)))
	for i := range r {
		r[i] = ours[i] / theirs[i]
	}
	return r
}

// ShowsRatio reports whether e, a ratio, is more than noise: whether its interval is no wider than it is away from 1, both
// on a scale on which 2 and 1/2 are equally far. Otherwise no ratio is to be told, only the interval.
func (e Estimate) ShowsRatio() bool {
	if !e.Sure() || !(e.Lo > 0) || math.IsInf(e.Hi, 0) {
		return false
	}
	return math.Log(e.Hi/e.Lo) <= math.Abs(math.Log(e.Mid))
}

// ShowsDifference is ShowsRatio for a difference, of which 0 is none.
func (e Estimate) ShowsDifference() bool { return e.Sure() && e.Hi-e.Lo <= math.Abs(e.Mid) }

// Scale is e with all values multiplied.
func (e Estimate) Scale(by float64) Estimate {
	return Estimate{N: e.N, Mid: e.Mid * by, Lo: e.Lo * by, Hi: e.Hi * by}
}

// Verdict says how an estimate stands to a limit.
type Verdict string

// The verdicts.
const (
	Met    Verdict = "met"
	Missed Verdict = "missed"
	// Open: the limit lies within the interval, or there are too few samples.
	Open Verdict = "undecided"
)

// AtMost judges an estimate by the most that it may be: met if all of its interval is, missed if nothing of it is.
func (e Estimate) AtMost(limit float64) Verdict {
	switch {
	case !e.Sure() || math.IsNaN(e.Mid):
		return Open
	case e.Hi <= limit:
		return Met
	case e.Lo > limit:
		return Missed
	}
	return Open
}

// AtLeast is AtMost for what may not be less.
func (e Estimate) AtLeast(limit float64) Verdict {
	switch {
	case !e.Sure() || math.IsNaN(e.Mid):
		return Open
	case e.Lo >= limit:
		return Met
	case e.Hi < limit:
		return Missed
	}
	return Open
}
