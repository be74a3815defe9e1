package plots

import (
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// logBar is a bar on a logarithmic axis, which plotter.BarChart cannot draw: it begins at the axis, and has a whisker.
type logBar struct {
	x, y, tail   float64
	shift, width vg.Length
	color        color.Color
}

// Plot draws it.
func (b *logBar) Plot(c draw.Canvas, p *plot.Plot) {
	toX, toY := p.Transforms(&c)
	left, right := toX(b.x)+b.shift-b.width/2+1, toX(b.x)+b.shift+b.width/2-1
	bottom, top := c.Min.Y, toY(b.y)
	outline := []vg.Point{{X: left, Y: bottom}, {X: left, Y: top}, {X: right, Y: top}, {X: right, Y: bottom}}
	c.FillPolygon(b.color, c.ClipPolygonXY(outline))
	style := draw.LineStyle{Color: gray, Width: vg.Points(1)}
	middle, end := (left+right)/2, toY(b.tail)
	c.StrokeLine2(style, middle, top, middle, end)
	c.StrokeLine2(style, middle-3, end, middle+3, end)
}

// swatch is a bar's color in the legend.
type swatch struct{ color color.Color }

// Thumbnail draws it.
func (s swatch) Thumbnail(c *draw.Canvas) {
	lo, hi := c.Min, c.Max
	c.FillPolygon(s.color, []vg.Point{lo, {X: lo.X, Y: hi.Y}, hi, {X: hi.X, Y: lo.Y}})
}
