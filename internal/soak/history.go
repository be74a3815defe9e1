package soak

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lindbridge/lindbridge/abi"
)

// history is what happened lately, bounded. Safe for concurrent use.
type history struct {
	began time.Time // immutable
	mu    sync.Mutex
	// All that follows is guarded by mu.
	ring []moment
	next int
}

// moment is one thing that happened, to a cage or to none.
type moment struct {
	at   time.Duration
	who  Who
	cage abi.CageID
	text string
}

const historySize = 512

func newHistory() *history { return &history{began: time.Now()} }

func (h *history) note(who Who, cage abi.CageID, format string, args ...any) {
	m := moment{at: time.Since(h.began), who: who, cage: cage, text: fmt.Sprintf(format, args...)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ring) < historySize {
		h.ring = append(h.ring, m)
		return
	}
	h.ring[h.next] = m
	h.next = (h.next + 1) % historySize
}

// lines are the last n moments, and before them those of the cage, if it is one, and of the plans that are named.
func (h *history) lines(n int, cage abi.CageID, of ...Who) []string {
	h.mu.Lock()
	ordered := slices.Concat(h.ring[h.next:], h.ring[:h.next])
	h.mu.Unlock()
	var out []string
	for i, m := range ordered {
		named := cage != 0 && m.cage == cage
		if named || slices.Contains(of, m.who) || i >= len(ordered)-n {
			line := fmt.Sprintf("%12v  %v  %s", m.at.Round(time.Microsecond), m.who, m.text)
			if m.cage != 0 {
				line += fmt.Sprintf(" (cage %d)", m.cage)
			}
			out = append(out, line)
		}
	}
	return out
}
