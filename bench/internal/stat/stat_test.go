package stat_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lindbridge/lindbridge/bench/internal/stat"
)

func TestOf_KeepsEverySampleAndInterpolates(t *testing.T) {
	samples := []float64{9, 1, 3, 1000}
	got := stat.Of(samples)
	want := stat.Summary{N: 4, Min: 1, P25: 2.5, P50: 6, P75: 256.75, P99: 970.27, Max: 1000}
	if math.Abs(got.P99-want.P99) > 1e-9 {
		t.Errorf("p99 %v, want %v", got.P99, want.P99)
	}
	got.P99 = want.P99
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if !slices.Equal(samples, []float64{9, 1, 3, 1000}) {
		t.Error("the samples were moved")
	}
	if one := stat.Of([]float64{7}); one.Min != 7 || one.P50 != 7 || one.P99 != 7 {
		t.Errorf("one sample: %+v", one)
	}
	if none := stat.Of(nil); none.N != 0 || !math.IsNaN(none.P50) {
		t.Errorf("no sample: %+v", none)
	}
}

// The ranks are those of the sign test's tables.
func TestEstimateOf_HasTheRanksOfTheSignTest(t *testing.T) {
	for n, k := range map[int]int{6: 1, 8: 1, 9: 2, 10: 2, 15: 4, 20: 6, 25: 8, 50: 18, 100: 40, 1000: 469} {
		samples := make([]float64, n)
		for i := range samples {
			samples[i] = float64(i + 1)
		}
		rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { samples[i], samples[j] = samples[j], samples[i] })
		e := stat.EstimateOf(samples)
		if e.Lo != float64(k) || e.Hi != float64(n-k+1) {
			t.Errorf("%d samples: ranks %v to %v, want %d to %d", n, e.Lo, e.Hi, k, n-k+1)
		}
	}
}

// Of many draws from a skewed distribution with a known median, at least 95% have it in their interval.
func TestEstimateOf_HoldsTheMedian(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const draws = 4000
	for _, n := range []int{6, 17, 60} {
		held := 0
		for range draws {
			samples := make([]float64, n)
			for i := range samples {
				samples[i] = r.ExpFloat64()
			}
			if e := stat.EstimateOf(samples); e.Lo <= math.Ln2 && math.Ln2 <= e.Hi {
				held++
			}
		}
		if share := float64(held) / draws; share < 0.94 {
			t.Errorf("%d samples: %.3f of the intervals have the median", n, share)
		}
	}
}

func repeat(values ...float64) []float64 { return slices.Repeat(values, 5) }

func TestShowsRatio_RefusesNoise(t *testing.T) {
	for _, c := range []struct {
		name   string
		ratios []float64
		want   bool
	}{
		{"a tenth, noisy", repeat(0.08, 0.1, 0.13), true},
		{"ten times, noisy", repeat(8, 10, 13), true},
		{"equal", repeat(0.95, 1, 1.05), false},
		{"a little less, but noisier than that", repeat(0.8, 0.95, 1.1), false},
		{"a little less, beyond doubt", repeat(0.949, 0.95, 0.951), true},
		{"all on one side, and wider than it is away from 1", []float64{0.8, 0.85, 0.9, 0.95, 0.97, 0.99}, false},
		{"five samples", []float64{0.1, 0.1, 0.1, 0.1, 0.1}, false},
		{"a zero", repeat(0, 0, 0), false},
	} {
		if got := stat.EstimateOf(c.ratios).ShowsRatio(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestShowsDifference_RefusesNoise(t *testing.T) {
	if stat.EstimateOf(repeat(-1, 1, 3)).ShowsDifference() {
		t.Error("1, from -1 to 3")
	}
	if !stat.EstimateOf(repeat(15, 16, 17)).ShowsDifference() {
		t.Error("16, from 15 to 17")
	}
}

func TestVerdicts_LookAtTheWholeInterval(t *testing.T) {
	sure := func(lo, mid, hi float64) stat.Estimate { return stat.Estimate{N: 100, Lo: lo, Mid: mid, Hi: hi} }
	for _, c := range []struct {
		e             stat.Estimate
		atMost, least stat.Verdict
	}{
		{sure(0.4, 0.45, 0.5), stat.Met, stat.Open},
		{sure(0.45, 0.49, 0.52), stat.Open, stat.Open},
		{sure(0.51, 0.55, 0.6), stat.Missed, stat.Met},
		{sure(0.1, 0.2, 0.3), stat.Met, stat.Missed},
		{stat.Estimate{N: 5, Lo: 0.1, Mid: 0.2, Hi: 0.3}, stat.Open, stat.Open},
		{sure(math.NaN(), math.NaN(), math.NaN()), stat.Open, stat.Open},
	} {
		if got := c.e.AtMost(0.5); got != c.atMost {
			t.Errorf("%+v at most 0.5: %v", c.e, got)
		}
		if got := c.e.AtLeast(0.5); got != c.least {
			t.Errorf("%+v at least 0.5: %v", c.e, got)
		}
	}
}

func TestRatios_PairWhatWasMeasuredInTurn(t *testing.T) {
	// The machine slows down tenfold in the middle; each pair still says a half.
	got := stat.Ratios([]float64{1, 1, 10, 10, 1}, []float64{2, 2, 20, 20})
	if !slices.Equal(got, []float64{0.5, 0.5, 0.5, 0.5}) {
		t.Errorf("%v", got)
	}
}
