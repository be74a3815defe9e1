package drive_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lindbridge/lindbridge/bench/internal/drive"
)

// TestMain is also a contestant, when the environment says so.
func TestMain(m *testing.M) {
	if os.Getenv("DRIVE_CONTESTANT") == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if err := drive.Serve(os.Stdin, os.Stdout, contend); err != nil {
		os.Exit(1)
	}
}

func contend(r *drive.Request) (drive.Reply, error) {
	switch r.Op {
	case "count":
		var reply drive.Reply
		for i := range r.N {
			reply.Ns = append(reply.Ns, float64(i))
		}
		return reply, nil
	case "fail":
		return drive.Reply{}, errors.New("on purpose: " + r.Arg(0))
	case "hang", "try": // both block in the read that nothing ends
		if r.Op == "try" {
			if err := r.Arm(); err != nil {
				return drive.Reply{}, err
			}
		}
		_, err := os.NewFile(3, "silent").Read(make([]byte, 1))
		return drive.Reply{}, err
	case "child": // a child that would outlive it
		cmd := exec.Command("sleep", "600")
		if err := cmd.Start(); err != nil {
			return drive.Reply{}, err
		}
		return drive.Reply{Values: map[string]float64{"pid": float64(cmd.Process.Pid)}}, nil
	case "die":
		os.Exit(3)
	}
	return drive.Reply{Cannot: "no " + r.Op}, nil
}

func start(t *testing.T, cpu int) *drive.Process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := drive.Start(drive.Spec{Args: []string{exe}, Env: []string{"DRIVE_CONTESTANT=1"}, CPU: cpu})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

const patience = 30 * time.Second

func TestAsk_AnswersInTurnAndSurvivesErrors(t *testing.T) {
	p := start(t, -1)
	reply, err := p.Ask(patience, 3, "count")
	if err != nil || !slices.Equal(reply.Ns, []float64{0, 1, 2}) {
		t.Fatalf("%v, %v", reply, err)
	}
	if _, err := p.Ask(patience, 0, "fail", "x"); err == nil || !strings.Contains(err.Error(), "on purpose: x") {
		t.Errorf("%v", err)
	}
	if reply, err := p.Ask(patience, 1, "sing"); err != nil || reply.Cannot != "no sing" {
		t.Errorf("%v, %v", reply, err)
	}
	if _, err := p.Ask(patience, 1, "count"); err != nil {
		t.Errorf("after an error: %v", err)
	}
}

// A contestant that does not come back is killed, and whether it had announced an attempt makes the difference.
func TestAsk_KillsWhoDoesNotComeBack(t *testing.T) {
	for op, want := range map[string]error{"hang": drive.ErrTimeout, "try": drive.ErrNoEnd} {
		p := start(t, -1)
		if _, err := p.Ask(patience, 1, "count"); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Ask(200*time.Millisecond, 1, op); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", op, err, want)
		}
		if !p.Ended() {
			t.Errorf("%s: it still runs", op)
		}
		if _, err := p.Ask(patience, 1, "count"); err == nil {
			t.Errorf("%s: a process that was killed answers", op)
		}
	}
}

func TestAsk_TellsThatItDied(t *testing.T) {
	p := start(t, -1)
	if _, err := p.Ask(patience, 1, "die"); err == nil || errors.Is(err, drive.ErrTimeout) {
		t.Errorf("%v", err)
	}
}

func TestKill_TakesItsChildrenAlong(t *testing.T) {
	p := start(t, -1)
	reply, err := p.Ask(patience, 1, "child")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	// Nobody of ours can wait for it; once it is dead, whoever inherited it has, or will.
	status := filepath.Join("/proc", strconv.Itoa(int(reply.Values["pid"])), "status")
	for deadline := time.Now().Add(patience); ; <-time.After(10 * time.Millisecond) {
		text, err := os.ReadFile(status)
		if err != nil || strings.Contains(string(text), "State:\tZ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the child lives:\n%s", text)
		}
	}
}

func TestStart_PinsToTheProcessorThatIsAskedFor(t *testing.T) {
	p := start(t, 0)
	if _, err := p.Ask(patience, 1, "count"); err != nil {
		t.Fatal(err)
	}
	if !p.Pinned() {
		t.Skip("this machine lets nobody choose")
	}
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(p.PID()), "status"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "Cpus_allowed_list:"); ok {
			if got := strings.TrimSpace(rest); got != "0" {
				t.Errorf("allowed on %s", got)
			}
			return
		}
	}
	t.Error("no Cpus_allowed_list")
}

func TestUsage_SeesThreadsAndMemory(t *testing.T) {
	p := start(t, -1)
	if _, err := p.Ask(patience, 1, "count"); err != nil {
		t.Fatal(err)
	}
	u, err := p.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if u.Threads < 1 || u.Resident < 100<<10 || u.WakeUps < 1 || u.CPUNs <= 0 || u.Mappings < 10 || u.FDs < 4 || u.MostFDs < u.FDs {
		t.Errorf("%+v", u)
	}
}

func TestServe_RefusesWhatIsNoRequest(t *testing.T) {
	for _, text := range []string{"one\n", "count x\n", "count -1\n"} {
		var out strings.Builder
		if err := drive.Serve(strings.NewReader(text), &out, contend); err == nil {
			t.Errorf("%q: answered %q", text, out.String())
		}
	}
}

func TestParseBenchmarks_TakesTheNamedOnesAlone(t *testing.T) {
	const text = `goos: linux
BenchmarkX/a=0         	   10000	       684.2 ns/op	      64 B/op	       0 allocs/op
BenchmarkX/a=0-2       	   10000	         0.5 ns/op	         0.1 x-lind
BenchmarkX/a=0/more    	   10000	         7 ns/op
BenchmarkX/a=01        	   10000	         8 ns/op
PASS
`
	got, err := drive.ParseBenchmarks(text, "BenchmarkX/a=0")
	if err != nil || !slices.Equal(got, []float64{684.2, 0.5}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := drive.ParseBenchmarks("BenchmarkX 100 3 MB/s\n", "BenchmarkX"); err == nil {
		t.Error("a line without ns/op")
	}
}
