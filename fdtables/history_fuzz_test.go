package fdtables_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lindbridge/lindbridge/fdtables"
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

// FuzzReplay replays any text. What it takes as calls it records, and that replays without a difference.
func FuzzReplay(f *testing.F) {
	f.Add("# two descriptors of one underfd\ninit 2 = ok\nhandlers 7 = ok\nopen 2 7 100 0 0 = 0\ndup 2 0 = 1\n" +
		"close 2 0 = ok; closed 1 7 100 0 0\nremove 2 = ok; closed 0 7 100 0 0\n")
	f.Add("init 2 = ok\nepoll 2 1 = 0\nopen 2 7 18446744073709551615 1 3 = 1\nepollctl 2 0 1 1 1 9 = ok\nmembers 2 0 = ok\n" +
		"acquire 2 1 = 0\ncloexec 2 1 1 = ok\nexec 2 = ok\nrelease 0 = ok\ntable 2 = ok\n")
	f.Add("init 2 = ok\nlimit 2 1048576 = ok\nopenat 2 1048575 0 1 0 0 = ok\nfork 2 3 = ok\ndupfrom 3 1048575 -1 1 = -22\n")
	f.Add("open 2 7 = 0\nnonsense = \ninit -9223372036854775808 = ok\ninit 99999999999999999999 = ok\ninit 18446744073709551615 = ok")
	f.Fuzz(func(t *testing.T, text string) {
		var record bytes.Buffer
		h := fdtables.NewHistory(&record)
		calls := 0
		for _, line := range strings.Split(text, "\n") {
			call, _, _ := strings.Cut(strings.TrimSpace(line), " = ")
			if _, err := h.Call(call); err == nil {
				calls++
			} else if !errors.Is(err, fdtables.ErrHistorySyntax) {
				t.Fatalf("%q: %v", call, err)
			}
		}
		if err := h.Flush(); err != nil {
			t.Fatal(err)
		}
		if n, err := fdtables.NewHistory(nil).Replay(&record); err != nil || n != calls {
			t.Fatalf("%d of %d calls were replayed: %v", n, calls, err)
		}
		// As it stands it is replayed, or differs, or is no history; whichever it is, to the same end each time.
		n1, err1 := fdtables.NewHistory(nil).Replay(strings.NewReader(text))
		n2, err2 := fdtables.NewHistory(nil).Replay(strings.NewReader(text))
		if n1 != n2 || fmt.Sprint(err1) != fmt.Sprint(err2) {
			t.Fatalf("%d, %v and then %d, %v", n1, err1, n2, err2)
		}
	})
}
