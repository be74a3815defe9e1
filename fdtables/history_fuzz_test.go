package fdtables_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// read takes the choices from a fuzzer's bytes, one each. After the last, all are the lowest.
type read struct{ b *bytes.Reader }

func (r read) from(_ string, lo, hi int) int {
	c, err := r.b.ReadByte()
	if err != nil {
		return lo
	}
	return lo + int(c)%(hi-lo+1)
}

// spell is one call of a history by its name and choices.
func spell(name string, choices ...byte) []byte {
	i, ok := slices.BinarySearch(historyNames, name)
	if !ok {
		panic("no call " + name)
	}
	return append([]byte{byte(i)}, choices...)
}

// lowFD is how history.fd spells a small descriptor.
func lowFD(fd byte) []byte { return []byte{12, fd} }

// FuzzHistory runs the history that the bytes spell on the package and on the model.
func FuzzHistory(f *testing.F) {
	f.Add([]byte{})
	var (
		open1   = spell("open", 0, 0, 0, 1, 3) // underfd 1, whose handlers fail
		open2   = spell("open", 0, 0, 0, 2, 7) // underfd 2, whose handlers panic
		close0  = spell("close", append([]byte{0}, lowFD(0)...)...)
		acq0    = spell("acquire", append([]byte{0}, lowFD(0)...)...)
		release = spell("release", 0)
	)
	history := func(maxOpen byte, calls ...[]byte) []byte {
		return slices.Concat([]byte{maxOpen}, slices.Concat(calls...))
	}
	// The life of an underfd that passes all states of its count: closed under an I/O, opened again, closed under it.
	f.Add(history(0, open1, acq0, close0, open1, close0, release, open2, acq0, close0, release))
	// At a limit of one underfd, which an I/O keeps open.
	f.Add(history(1, open1, open2, acq0, close0, open2, open1, close0, open2, release, open2, open1))
	// Fork, exec, and both cages removed.
	f.Add(history(0, open1, open2, spell("fork", 0, 1), spell("set", append(append([]byte{1}, lowFD(1)...), 1, 7, 1)...),
		spell("exec", 1), spell("remove", 0), close0, spell("remove", 1)))
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		b := make([]byte, 600)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := read{bytes.NewReader(b)}
		h := newHistory(c)
		for c.b.Len() > 0 {
			if p := h.step(historyNames[c.from("call", 0, len(historyNames)-1)]); p != "" {
				t.Fatal(p)
			}
		}
		if p := h.end(); p != "" {
			t.Fatal(p)
		}
	})
}
