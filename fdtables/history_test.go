package fdtables_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lindbridge/lindbridge/fdtables"
)

var (
	historyFile = flag.String("history", "", "where TestHistory_ReplaysWhatItRecorded leaves the history")
	modelCalls  = flag.Int("model-calls", 60_000, "how many calls TestHistory_LongOnesAgreeWithTheModel makes")
	historySize = flag.Int("calls", 20_000, "how many calls that has")
)

func TestHistory_CallsAnswerAsTheirMethodsDo(t *testing.T) {
	const text = `
# the life of a cage
open 2 7 100 0 0 = nocage
init 2 = ok
init 2 = exists
handlers 7 = ok
open 2 7 100 1 5 = 0
open 2 4278190080 1 0 0 = -22
open 2 4294967303 1 0 0 = -22
openfrom 2 1024 7 1 0 0 = -22
openfrom 2 -1 7 1 0 0 = -22
openat 2 4294967297 7 1 0 0 = -9
openat 2 1024 7 1 0 0 = -9
openfrom 2 10 7 101 0 0 = 10
dup 2 0 = 1
dupfrom 2 0 5 1 = 5
dup2 2 10 1 0 = ok; closed 2 7 100 0 5
translate 2 0 = 7 100 1 5
translate 2 99 = -9
cloexec 2 10 1 = ok
info 2 10 18446744073709551615 = ok
table 2 = ok; 0 7 100 1 5; 1 7 101 0 0; 5 7 100 1 5; 10 7 101 1 18446744073709551615
fork 2 3 = ok
fork 2 3 = exists
fork 9 4 = nocage
acquire 2 0 = 0
acquire 2 77 = -9
remove 3 = ok; closed 3 7 100 1 5; closed 3 7 101 0 0; closed 2 7 100 1 5; closed 2 7 101 1 18446744073709551615
exec 2 = ok; closed 1 7 100 1 5; closed 1 7 101 1 18446744073709551615
release 0 = ok; closed 0 7 100 1 5
release 0 = none
epoll 2 0 = 0
epollctl 2 0 1 1 4 9 = ok
epollctl 2 0 1 1 4 9 = -17
epollctl 2 0 3 1 5 10 = ok
members 2 0 = ok; 1 7 101 0 0 5 10
members 2 1 = -22
close 2 1 = ok; closed 0 7 101 0 0
close 2 1 = -9
members 2 0 = ok
limit 2 1048577 = -1
limit 2 0 = ok
remove 2 = ok
remove 2 = nocage
`
	h := fdtables.NewHistory(nil)
	n, err := h.Replay(strings.NewReader(text))
	if want := strings.Count(text, " = "); err != nil || n != want {
		t.Fatalf("%d calls of %d: %v", n, want, err)
	}
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestHistory_SaysWhereItDiffersAndWhatIsNoCall(t *testing.T) {
	for _, c := range []struct {
		text  string
		calls int
		want  error
		says  string
	}{
		{"init 2 = ok\n\nopen 2 7 1 0 0 = 1\nopen 2 7 1 0 0 = 1", 2, fdtables.ErrHistoryDiffers, "line 3: open 2 7 1 0 0 = 0: "},
		{"init 2 = exists", 1, fdtables.ErrHistoryDiffers, "line 1"},
		{"init 2", 0, fdtables.ErrHistorySyntax, "line 1"},
		{"init = ok", 0, fdtables.ErrHistorySyntax, "line 1"},
		{"init 2 3 = ok", 0, fdtables.ErrHistorySyntax, "line 1"},
		{"# x\ninit two = ok", 0, fdtables.ErrHistorySyntax, "line 2"},
		{"init 18446744073709551616 = ok", 0, fdtables.ErrHistorySyntax, "line 1"},
		{"unit 2 = ok", 0, fdtables.ErrHistorySyntax, "line 1"},
		{" = ok", 0, fdtables.ErrHistorySyntax, "line 1"},
		{strings.Repeat("x", 1<<20), 0, nil, "token too long"},
	} {
		n, err := fdtables.NewHistory(nil).Replay(strings.NewReader(c.text))
		if err == nil || c.want != nil && !errors.Is(err, c.want) || n != c.calls || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.40q: %d calls, %v", c.text, n, err)
		}
	}
}

// broken is a writer that fails.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errHandler }

func TestHistory_TellsThatItCannotRecord(t *testing.T) {
	h := fdtables.NewHistory(broken{})
	if r, err := h.Call("init 2"); r != "ok" || err != nil {
		t.Fatal(r, err)
	}
	wantErr(t, h.Flush(), errHandler)
	_, err := h.Call("init 3")
	wantErr(t, err, errHandler)
}

// randomCall is a call of a history with arguments that often meet, and the edges.
func randomCall(r *rand.Rand) string {
	pick := func(of ...int64) int64 { return of[r.IntN(len(of))] }
	cage := func() int64 { return pick(2, 2, 2, 3, 3, 4, 1<<40) }
	fd := func() int64 {
		if r.IntN(8) == 0 {
			return pick(-1, 15, 16, 63, 64, 1023, 1024, 1<<20, 1<<31, 1<<32)
		}
		return r.Int64N(12)
	}
	entry := func() string {
		return fmt.Sprint(pick(0, 0, 1, 1000, 0xff000000), " ", pick(0, 1, 2, 3, 1<<40), " ", r.IntN(2), " ", r.IntN(4))
	}
	switch n := r.IntN(125); {
	case n < 3:
		return fmt.Sprint("init ", cage())
	case n < 6:
		return fmt.Sprint("fork ", cage(), " ", cage())
	case n < 8:
		return fmt.Sprint("remove ", cage())
	case n < 11:
		return fmt.Sprint("exec ", cage())
	case n < 26:
		return fmt.Sprint("open ", cage(), " ", entry())
	case n < 30:
		return fmt.Sprint("openfrom ", cage(), " ", fd(), " ", entry())
	case n < 36:
		return fmt.Sprint("openat ", cage(), " ", fd(), " ", entry())
	case n < 40:
		return fmt.Sprint("dup ", cage(), " ", fd())
	case n < 44:
		return fmt.Sprint("dupfrom ", cage(), " ", fd(), " ", fd(), " ", r.IntN(2))
	case n < 48:
		return fmt.Sprint("dup2 ", cage(), " ", fd(), " ", fd(), " ", r.IntN(2))
	case n < 62:
		return fmt.Sprint("close ", cage(), " ", fd())
	case n < 66:
		return fmt.Sprint("cloexec ", cage(), " ", fd(), " ", r.IntN(2))
	case n < 69:
		return fmt.Sprint("info ", cage(), " ", fd(), " ", r.IntN(4))
	case n < 70:
		return fmt.Sprint("limit ", cage(), " ", pick(0, 5, 1024, 1024, 1<<20, 1<<20+1))
	case n < 75:
		return fmt.Sprint("translate ", cage(), " ", fd())
	case n < 78:
		return fmt.Sprint("table ", cage())
	case n < 82:
		return fmt.Sprint("acquire ", cage(), " ", fd())
	case n < 86:
		return fmt.Sprint("release ", r.IntN(200))
	case n < 92:
		return fmt.Sprint("epoll ", cage(), " ", r.IntN(2))
	case n < 120:
		return fmt.Sprint("epollctl ", cage(), " ", r.IntN(5), " ", pick(0, 1, 1, 1, 1, 2, 3), " ", r.IntN(6), " ", r.IntN(8), " ", r.IntN(100))
	}
	return fmt.Sprint("members ", cage(), " ", fd())
}

func TestHistory_ReplaysWhatItRecorded(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	var text bytes.Buffer
	h := fdtables.NewHistory(&text)
	calls := []string{"handlers 0", "handlers 1", "handlers 1000", fmt.Sprint("handlers ", uint32(fdtables.KindEpoll))}
	// A loop of epolls needs several calls that fit together: luck alone does not bring it into every history.
	calls = append(calls, "init 2", "epoll 2 0", "epoll 2 0", "epollctl 2 0 1 1 1 9", "epollctl 2 1 1 0 1 9")
	for i := range *historySize {
		call := randomCall(r)
		if i < len(calls) {
			call = calls[i]
		}
		if _, err := h.Call(call); err != nil {
			t.Fatalf("call %d of the history of seed %d: %v", i, seed, err)
		}
	}
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	if *historyFile != "" {
		if err := os.WriteFile(*historyFile, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"; closed 0", "; closed 2", "-17", "-40", "nocage", "exists", "members"} {
		if !bytes.Contains(text.Bytes(), []byte(name)) {
			t.Errorf("nothing like %q in the history of seed %d: it is too tame", name, seed)
		}
	}
	recorded := slices.Clone(text.Bytes())
	n, err := fdtables.NewHistory(nil).Replay(bytes.NewReader(recorded))
	if err != nil || n != *historySize {
		t.Fatalf("%d calls of the history of seed %d: %v", n, seed, err)
	}
}
