package exitcoord

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// This file holds what the report for people is made of: text that is safe on a terminal, durations, columns.

// printable is s on one line with everything escaped that a terminal might obey, or hide: guests name their own
// functions and write their own messages.
func printable(s string) string {
	bad := func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }
	if strings.IndexFunc(s, bad) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ')
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[0]), 16))
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// firstLine is s up to its first line feed.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// count is "1 thread", "2 threads".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// duration is d to three digits with its unit: "850 ns", "12.3 µs", "1.23 ms", "2.50 s", and "1m5s" from a minute on.
func duration(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Microsecond:
		return strconv.Itoa(int(d)) + " ns"
	case d < 999_500*time.Nanosecond:
		return digits(float64(d)/1e3) + " µs"
	case d < 999_500*time.Microsecond:
		return digits(float64(d)/1e6) + " ms"
	case d < time.Minute-50*time.Millisecond:
		return digits(float64(d)/1e9) + " s"
	}
	return d.Round(time.Second).String()
}

// digits is v, which is from 1 to under 999.5, to three digits.
func digits(v float64) string {
	switch {
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// width is how many columns s takes, for text of one column a rune.
func width(s string) int { return utf8.RuneCountInString(s) }

// cut is s, or its first n-1 runes and an ellipsis if it has more than n.
func cut(s string, n int) string {
	if width(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// wrap is s in lines of at most n columns, broken at blanks, and inside of words that are longer than a line.
func wrap(s string, n int) []string {
	var out []string
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && width(line)+1+width(word) <= n {
			line += " " + word
			continue
		}
		if line != "" {
			out = append(out, line)
		}
		for width(word) > n {
			r := []rune(word)
			out, word = append(out, string(r[:n])), string(r[n:])
		}
		line = word
	}
	return append(out, line)
}

// column is how one column of a table is laid out.
type column struct {
	head  string
	right bool // aligned to the right, its heading too
}

const (
	gap       = "  " // stands between two columns
	lastWidth = 24   // what the last column gets at least, if it needs it
)

// table writes rows under their headings, each line after indent and none longer than lineWidth. A column with nothing
// in it is left out. If the rows are too long then cells of the widest columns are cut; the last column is aligned to
// the left and wrapped under itself instead.
func table(b *strings.Builder, indent string, cols []column, rows [][]string) {
	last := len(cols) - 1
	heads := make([]string, len(cols))
	for c, col := range cols {
		heads[c] = col.head
	}
	widths := columnWidths(heads, rows)
	fit(widths[:last], lineWidth-width(indent)-min(widths[last], lastWidth))
	line := func(row []string) {
		start := indent
		for c := range last {
			if widths[c] == 0 {
				continue
			}
			cell := cut(row[c], widths[c])
			pad := strings.Repeat(" ", widths[c]-width(cell))
			if cols[c].right {
				start += pad + cell + gap
			} else {
				start += cell + pad + gap
			}
		}
		if widths[last] == 0 {
			b.WriteString(strings.TrimRight(start, " ") + "\n")
			return
		}
		paragraph(b, start, row[last])
	}
	line(heads)
	for _, row := range rows {
		line(row)
	}
}

// columnWidths is how wide each column would be, 0 for one with nothing under its heading.
func columnWidths(heads []string, rows [][]string) []int {
	widths := make([]int, len(heads))
	for c, head := range heads {
		for _, row := range rows {
			if row[c] != "" {
				widths[c] = max(widths[c], width(row[c]), width(head))
			}
		}
	}
	return widths
}

// fit makes the widest columns narrower until all of them, with their gaps, take no more than room.
func fit(widths []int, room int) {
	sum := 0
	for _, w := range widths {
		if w > 0 {
			sum += w + len(gap)
		}
	}
	for ; sum > room; sum-- {
		widest := 0
		for c := range widths {
			if widths[c] > widths[widest] {
				widest = c
			}
		}
		widths[widest]--
	}
}

// paragraph writes s after start, wrapped at lineWidth under itself.
func paragraph(b *strings.Builder, start, s string) {
	for _, part := range wrap(s, max(lineWidth-width(start), 1)) {
		b.WriteString(strings.TrimRight(start+part, " ") + "\n")
		start = strings.Repeat(" ", width(start))
	}
}
