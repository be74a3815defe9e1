package plots

import (
	"fmt"
	"image/color"
	"math"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"github.com/lindbridge/lindbridge/bench/internal/record"
)

const width, height = 16 * vg.Centimeter, 9 * vg.Centimeter

// Curves says how the series of a plot are drawn.
type Curves struct {
	// Plot is that of the series; File the file's name.
	Plot, File  string
	Title, X, Y string
	LogX        bool
	Scale       float64               // of the values, which are nanoseconds
	Convert     func(float64) float64 // instead of Scale
	Zero        bool                  // the axis begins at 0
	ZeroX       float64               // LogX: where a value at 0 is drawn
}

// Draw draws the series, and answers whether there were any.
func (c Curves) Draw(rec *record.Record, dir string) (bool, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.Title, c.X, c.Y
	p.Add(plotter.NewGrid())
	p.Legend.Top, p.Legend.Left = true, true
	n, top := 0, 0.0
	for _, s := range rec.Series {
		if s.Plot != c.Plot {
			continue
		}
		points := c.points(s)
		line, dots, err := plotter.NewLinePoints(points.XYs)
		if err != nil {
			return false, err
		}
		bars, err := plotter.NewYErrorBars(points)
		if err != nil {
			return false, err
		}
		line.Color, dots.Color, bars.Color = plotutil.Color(n), plotutil.Color(n), plotutil.Color(n)
		dots.Shape = plotutil.Shape(n)
		p.Add(line, dots, bars)
		p.Legend.Add(s.Name, line, dots)
		for i, xy := range points.XYs {
			top = math.Max(top, xy.Y+points.YErrors[i].High)
		}
		n++
	}
	if n == 0 {
		return false, nil
	}
	if c.Zero {
		p.Y.Min = 0
	}
	p.Y.Max = 1.3 * top // room for the legend
	if c.LogX {
		p.X.Scale = plot.LogScale{}
		p.X.Tick.Marker = decades{}
	}
	return true, p.Save(width, height, filepath.Join(dir, c.File))
}

// points are the medians with their intervals.
func (c Curves) points(s record.Series) (out struct {
	plotter.XYs
	plotter.YErrors
},
) {
	convert := c.Convert
	if convert == nil {
		convert = func(v float64) float64 { return v * c.Scale }
	}
	for _, p := range s.Points {
		x := p.X
		if c.LogX && x <= 0 {
			x = c.ZeroX
		}
		mid, lo, hi := convert(p.Y.Mid), convert(p.Y.Lo), convert(p.Y.Hi)
		if lo > hi {
			lo, hi = hi, lo
		}
		out.XYs = append(out.XYs, plotter.XY{X: x, Y: mid})
		out.YErrors = append(out.YErrors, struct{ Low, High float64 }{mid - lo, hi - mid})
	}
	return out
}

// decades are ticks at the powers of ten.
type decades struct{}

// Ticks are those between two values.
func (decades) Ticks(lo, hi float64) []plot.Tick {
	var ticks []plot.Tick
	for v := math.Pow(10, math.Floor(math.Log10(lo))); v <= hi*1.0001; v *= 10 {
		if v >= lo*0.9999 {
			ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%.0f", v)})
		}
	}
	return ticks
}

// Kinds are groups of bars on a logarithmic axis: the p50 of each contestant for each of some rows.
type Kinds struct {
	File, Title, Y string
	// Prefix is that of the lines' ids, Group what they are called.
	Prefix string
	Rows   []string
	Labels []string
	// Peers are the contestants, by the beginning of their names; the first is ours.
	Peers []string
}

// Draw draws the bars, with whiskers up to p99 or the maximum, and answers whether there were any.
func (k Kinds) Draw(rec *record.Record, dir string) (bool, error) {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = k.Title, k.Y
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, decades{}
	p.Legend.Top = true
	bar := vg.Points(16)
	low, high := math.Inf(1), 0.0
	drawn := false
	for i, peer := range k.Peers {
		cells := k.cells(rec, peer, i == 0)
		shift := bar * vg.Length(float64(i)-float64(len(k.Peers)-1)/2)
		for row, c := range cells {
			if c == nil || c.Of.N == 0 {
				continue
			}
			drawn = true
			us, tail := c.Of.P50/1e3, c.Of.P99/1e3
			low, high = math.Min(low, us), math.Max(high, tail)
			p.Add(&logBar{x: float64(row), y: us, tail: tail, shift: shift, width: bar, color: plotutil.Color(i)})
		}
		p.Legend.Add(peer, swatch{plotutil.Color(i)})
	}
	if !drawn {
		return false, nil
	}
	p.Y.Min, p.Y.Max = math.Pow(10, math.Floor(math.Log10(low))), 8*high
	p.X.Min, p.X.Max = -0.6, float64(len(k.Rows))-0.4
	p.NominalX(k.Labels...)
	return true, p.Save(width, height, filepath.Join(dir, k.File))
}

// cells are those of a contestant, by row; nil where it has none.
func (k Kinds) cells(rec *record.Record, peer string, ours bool) []*record.Cell {
	cells := make([]*record.Cell, len(k.Rows))
	for row, name := range k.Rows {
		for i := range rec.Lines {
			l := &rec.Lines[i]
			if !strings.HasPrefix(l.ID, k.Prefix+name+" : ") {
				continue
			}
			if ours {
				cells[row] = &l.Ours
			} else if strings.HasPrefix(l.Peer.Who, peer) && l.Peer.Cannot == "" {
				cells[row] = &l.Peer
			}
		}
	}
	return cells
}

// All draws all plots of a run, and answers those that it had figures for: the file and what it shows.
func All(rec *record.Record, dir string) ([][2]string, error) {
	kinds := Kinds{
		File: "exit-latency.svg", Title: "From the kill until it is waited for: p50, whisker to p99", Y: "µs", Prefix: "kill/",
		Rows: []string{"busy", "waiting", "reading", "mixed"}, Labels: []string{"1 busy", "1 in atomic wait", "1 in read", "8 mixed"},
		Peers: []string{"lindbridge", "kill -9", "wazero", "Node"},
	}
	curves := []Curves{
		{
			Plot: "idle", File: "exit-idle.svg", Title: "An exit beside idle cages", X: "idle cages (1 stands for none)", Y: "µs", LogX: true,
			Scale: 1e-3, Zero: true, ZeroX: 1,
		},
		{
			Plot: "handlers", File: "exit-handlers.svg", Title: "An exit beside handlers of other cages", X: "handlers (100 stands for none)",
			Y: "µs", LogX: true, Scale: 1e-3, Zero: true, ZeroX: 100,
		},
		{
			Plot: "translate", File: "translate.svg", Title: "Translating descriptors of one cage", X: "threads", Y: "ns each, wall time",
			Scale: 1, Zero: true,
		},
		{
			Plot: "spawn", File: "spawn-rate.svg", Title: "Tiny cages that come and go", X: "goroutines", Y: "a second",
			Convert: func(ns float64) float64 { return 1e9 / ns }, Zero: true,
		},
	}
	var done [][2]string
	add := func(file, title string, ok bool, err error) error {
		if ok && err == nil {
			done = append(done, [2]string{file, title})
		}
		return err
	}
	ok, err := kinds.Draw(rec, dir)
	if err := add(kinds.File, kinds.Title, ok, err); err != nil {
		return nil, err
	}
	for _, c := range curves {
		ok, err := c.Draw(rec, dir)
		if err := add(c.File, c.Title, ok, err); err != nil {
			return nil, err
		}
	}
	return done, nil
}

// gray is the outline of bars.
var gray = color.Gray{Y: 80}
